//! Random histories against a model in memory: nothing accepted is lost, nothing answered for comes back except what
//! a power cut took the answer of, and the books balance after every step.

use super::{fault::Faults, *};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    /// Append this many records at once, of this many bytes each.
    Append {
        records: usize,
        bytes: usize,
    },
    /// Append to this start's pending spool.
    Early,
    Adopt,
    Read,
    /// Answer the i-th of the records that are out: delivered, or set aside.
    Answer {
        which: usize,
        aside: bool,
    },
    /// A new reader begins where the cursor is.
    Reread,
    Close,
    Kill,
    CutPower {
        luck: u16,
    },
    Fault {
        full: bool,
        sync: bool,
        write: bool,
    },
    Heal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![4 => 0..200usize, 1 => Just(1500), 1 => Just(5000)];
    let step = prop_oneof![
        8 => (1..4usize, bytes).prop_map(|(records, bytes)| Step::Append { records, bytes }),
        2 => Just(Step::Early),
        1 => Just(Step::Adopt),
        8 => Just(Step::Read),
        8 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(which, aside)| Step::Answer { which, aside }),
        1 => Just(Step::Reread),
        1 => Just(Step::Close),
        2 => Just(Step::Kill),
        2 => any::<u16>().prop_map(|luck| Step::CutPower { luck }),
        2 => any::<[bool; 3]>().prop_map(|[full, sync, write]| Step::Fault { full, sync, write }),
        3 => Just(Step::Heal),
    ];
    prop::collection::vec(step, 1..60)
}

/// What must be true.
#[derive(Default)]
struct Model {
    next: u64,
    /// Promised, and not answered for.
    owed: BTreeSet<u64>,
    /// Answered for; after a power cut they may come again.
    answered: BTreeSet<u64>,
    /// Answered for before an earlier one was, when the process ended: what was in flight comes again.
    in_flight: BTreeSet<u64>,
    /// Refused; they may come all the same.
    refused: BTreeSet<u64>,
    /// Waiting in this or an earlier start's pending spool.
    pending: BTreeSet<u64>,
    power_was_cut: bool,
}

struct Run {
    world: World,
    model: Model,
    starts: u32,
    spool: Option<Spool>,
    reader: Option<Reader>,
    out: Vec<(u64, Record)>,
    /// What was answered since the start, by its place.
    answers: Vec<(Position, u64)>,
    seen: BTreeSet<u64>,
}

impl Run {
    fn new() -> Run {
        let world = World::new();
        let (model, out, answers, seen) = Default::default();
        let mut run = Run {
            world,
            model,
            starts: 0,
            spool: None,
            reader: None,
            out,
            answers,
            seen,
        };
        run.start();
        run
    }

    fn start(&mut self) {
        if let Some(spool) = &self.spool {
            let cursor = spool.handle.core.log(&ada(), TRACES).expect("a log").state().cursor;
            let cursor = Position {
                segment: cursor.segment,
                offset: cursor.offset,
            };
            let beyond = self.answers.drain(..).filter(|(position, _)| *position >= cursor);
            self.model.in_flight.extend(beyond.map(|(_, id)| id));
        }
        (self.reader, self.spool) = (None, None);
        self.starts += 1;
        let session = format!("s{}", self.starts);
        let config = Config {
            keep_bytes: 5 << 10,
            session,
            ..config(Path::new("/spool"))
        };
        self.spool = Some(Spool::open_on(self.world.disk.clone(), config, None, 4 << 10).expect("opens"));
        self.reread();
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("started")
    }

    fn reread(&mut self) {
        self.reader = Some(self.spool().reader(&ada(), TRACES).expect("a reader"));
        self.out.clear();
        self.seen.clear();
    }

    async fn append(&mut self, owner: Owner, records: usize, bytes: usize) -> Vec<u64> {
        let mut tasks = Vec::new();
        for _ in 0..records {
            let id = self.model.next;
            self.model.next += 1;
            let mut record = id.to_le_bytes().to_vec();
            record.resize(8 + bytes, id as u8);
            let (spool, owner) = (self.spool().clone(), owner.clone());
            let task = async move { spool.append(&owner, TRACES, 1 + id % 5, Bytes::from(record)).await };
            tasks.push((id, tokio::spawn(task)));
        }
        let mut accepted = Vec::new();
        for (id, task) in tasks {
            match task.await.expect("no panic") {
                Ok(()) => accepted.push(id),
                Err(_) => drop(self.model.refused.insert(id)),
            }
        }
        accepted
    }

    fn read(&mut self) {
        let Ok(Some(record)) = self.reader.as_mut().expect("started").try_next() else {
            return;
        };
        let bytes = record.bytes.to_bytes();
        let id = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        assert!(
            bytes[8..].iter().all(|byte| *byte == id as u8),
            "exactly the bytes that were appended"
        );
        assert_eq!(record.items, 1 + id % 5);
        assert!(self.seen.insert(id), "one reader gets a record once");
        let model = &self.model;
        assert!(!model.pending.contains(&id), "what is pending is nobody's");
        let again = model.in_flight.contains(&id) || (model.answered.contains(&id) && model.power_was_cut);
        assert!(
            model.owed.contains(&id) || model.refused.contains(&id) || again,
            "{id} came from nowhere"
        );
        self.out.push((id, record));
    }

    fn answer(&mut self, which: usize, aside: bool) {
        if self.out.is_empty() {
            return;
        }
        let (id, record) = self.out.swap_remove(which % self.out.len());
        let mut outcome = delivered(record.items);
        if aside {
            let part = Part {
                bytes: record.bytes.to_bytes(),
                items: record.items,
                reason: "400".to_owned(),
            };
            outcome = Outcome {
                set_aside: vec![part],
                ..Outcome::default()
            };
        }
        if self
            .reader
            .as_ref()
            .expect("started")
            .resolve(record.position, outcome)
            .is_ok()
        {
            self.model.owed.remove(&id);
            self.model.answered.insert(id);
            self.model.in_flight.remove(&id);
            self.answers.push((record.position, id));
        } else {
            self.out.push((id, record));
        }
    }

    fn check(&self) {
        let stats = self.spool().stats();
        let used = log::lock(&self.spool().handle.core.caps).lane(TRACES).unsent;
        assert_eq!(used, stats.bytes, "what takes room is what is unsent");
        let Some(books) = stats.books.get(TRACES) else { return };
        let promised: u64 = self
            .model
            .owed
            .iter()
            .chain(&self.model.pending)
            .map(|id| 1 + id % 5)
            .sum();
        assert!(
            books.pending >= promised,
            "{books:?} has less pending than the {promised} that are owed"
        );
        let settled = books.delivered + books.rejected + books.set_aside + books.expired;
        assert_eq!(books.accepted, settled + books.pending);
        if self.model.refused.is_empty() && !self.model.power_was_cut {
            let again: u64 = self.model.in_flight.iter().map(|id| 1 + id % 5).sum();
            assert_eq!(books.pending, promised + again);
            let all: u64 = (0..self.model.next).map(|id| 1 + id % 5).sum();
            assert_eq!(books.accepted, all);
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append { records, bytes } => {
                let accepted = self.append(ada(), records, bytes).await;
                self.model.owed.extend(accepted);
            }
            Step::Early => {
                let accepted = self.append(self.spool().pending(), 1, 10).await;
                let adopted = log::lock(&self.spool().handle.core.logs).adopted.is_some();
                if adopted {
                    self.model.owed.extend(accepted)
                } else {
                    self.model.pending.extend(accepted)
                }
            }
            Step::Adopt => {
                if self.spool().adopt(&ada()).await.is_ok() {
                    let mut pending = std::mem::take(&mut self.model.pending);
                    self.model.owed.append(&mut pending);
                } else {
                    // Some of it may have moved.
                    self.model.refused.extend(&self.model.pending);
                    let mut pending = std::mem::take(&mut self.model.pending);
                    self.world.disk.set(Faults::default());
                    self.spool().adopt(&ada()).await.expect("a healthy disk");
                    self.model.owed.append(&mut pending);
                }
            }
            Step::Read => self.read(),
            Step::Answer { which, aside } => self.answer(which, aside),
            Step::Reread => self.reread(),
            Step::Close => {
                self.spool().close().await;
                self.start();
            }
            Step::Kill => {
                self.world.disk.kill();
                self.start();
            }
            Step::CutPower { luck } => {
                self.model.power_was_cut = true;
                let mut luck = u64::from(luck);
                self.world.disk.cut_power(|most| {
                    luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (luck >> 33) as usize % (most + 1)
                });
                self.start();
            }
            Step::Fault { full, sync, write } => self.world.disk.set(Faults {
                full,
                sync,
                write,
                ..Faults::default()
            }),
            Step::Heal => self.world.disk.set(Faults::default()),
        }
        self.check();
    }

    /// At last everything that is owed comes out.
    async fn drain(&mut self) {
        self.world.disk.set(Faults::default());
        self.take(Step::Adopt).await;
        self.reread();
        loop {
            let before = self.out.len();
            self.read();
            if self.out.len() == before {
                break;
            }
        }
        let out: BTreeSet<u64> = self.out.iter().map(|(id, _)| *id).collect();
        let lost: Vec<&u64> = self.model.owed.difference(&out).collect();
        assert!(lost.is_empty(), "{lost:?} were accepted and are lost");
        while !self.out.is_empty() {
            self.answer(0, false);
        }
        let books = self.spool().stats().books.remove(TRACES).unwrap_or_default();
        assert_eq!((books.pending, self.spool().stats().bytes), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn promises_1_and_3_hold_for_random_histories_of_faults_and_crashes(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut run = Run::new();
            for step in steps {
                run.take(step).await;
            }
            run.drain().await;
        });
    }
}
