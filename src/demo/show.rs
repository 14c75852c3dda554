//! The course of the demonstration: what happens when, and what is told of it.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Options, Report,
    agent::{Agent, Setup},
    interrupt::Interrupts,
    issuer::{self, Issuer},
    narrate::Narrator,
    sample::Sample,
    upstream::{self, Upstream},
};

/// Short enough for several rotations a minute.
const LIFETIME: Duration = Duration::from_secs(20);
/// How often the course is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the counts are told.
const TELL: Duration = Duration::from_secs(2);
/// How long the last spans may take to arrive.
const DRAIN: Duration = Duration::from_secs(30);
/// When upstream goes and comes back, and when the agent is killed, as parts of the whole.
const DOWN_AT: f64 = 0.25;
const BACK_AT: f64 = 0.40;
const KILL_AT: f64 = 0.60;

/// All that takes part.
struct Show<'a> {
    narrator: Narrator,
    interrupts: Interrupts,
    issuer: Issuer,
    upstream: Upstream,
    setup: &'a Setup,
    agent: Option<Agent>,
    sample: Sample,
    /// How many agents were started.
    starts: u64,
    /// How many mints were told of.
    told: u64,
    rotations: u64,
    /// Whether the next mint is the first of its agent.
    anew: bool,
    /// Set from the return of upstream until the backlog is gone: when, and how many spans were accepted by then.
    catching_up: Option<(Instant, u64)>,
}

/// The events that wait for their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    UpstreamGoes,
    UpstreamReturns,
    AgentIsKilled,
}

/// When each happens, counted from the start.
fn schedule(whole: Duration) -> [(Duration, Act); 3] {
    [
        (whole.mul_f64(DOWN_AT), Act::UpstreamGoes),
        (whole.mul_f64(BACK_AT), Act::UpstreamReturns),
        (whole.mul_f64(KILL_AT), Act::AgentIsKilled),
    ]
}

/// Runs the whole course below `directory`.
pub(super) async fn run(options: &Options, directory: &Path, mut interrupts: Interrupts) -> io::Result<Report> {
    let narrator = Narrator::new(options.json);
    let parts = tokio::select! {
        parts = start(&narrator, directory) => parts?,
        () = interrupts.next() => return Err(io::Error::new(io::ErrorKind::Interrupted, "it was ended before it began")),
    };
    let Parts {
        issuer,
        upstream,
        setup,
        agent,
    } = parts;
    let sample = Sample::start(setup.http)?;
    narrator.say("sample    sends 100 spans a second through the OpenTelemetry SDK");
    let mut show = Show {
        narrator,
        interrupts,
        issuer,
        upstream,
        setup: &setup,
        agent: Some(agent),
        sample,
        starts: 1,
        told: 0,
        rotations: 0,
        anew: true,
        catching_up: None,
    };
    let course = show.course(options.duration).await;
    let report = show.finish().await;
    course.and(report)
}

/// All that has to run before the sample application begins. Dropping it ends it.
struct Parts {
    issuer: Issuer,
    upstream: Upstream,
    setup: Setup,
    agent: Agent,
}

async fn start(narrator: &Narrator, directory: &Path) -> io::Result<Parts> {
    let issuer = Issuer::start(issuer::Config {
        lifetime: LIFETIME,
        ..issuer::Config::default()
    })
    .await?;
    narrator.say(&format!(
        "issuer    {} mints tokens that live {} s",
        issuer.url(),
        LIFETIME.as_secs()
    ));
    let upstream = Upstream::start(upstream::Config {
        issuer: Some(issuer.url()),
        audience: None,
    })
    .await?;
    narrator.say(&format!(
        "upstream  {} checks signature, audience, expiry",
        upstream.url()
    ));
    let setup = Setup::new(directory, &upstream.url(), &issuer.url())?;
    let began = Instant::now();
    let agent = setup.start().await?;
    narrator.say(&format!(
        "agent     pid {}, gRPC :{}, HTTP :{}, accepting after {} ms",
        agent.pid().unwrap_or_default(),
        setup.grpc.port(),
        setup.http.port(),
        began.elapsed().as_millis()
    ));
    Ok(Parts {
        issuer,
        upstream,
        setup,
        agent,
    })
}

impl Show<'_> {
    async fn course(&mut self, whole: Duration) -> io::Result<()> {
        let began = Instant::now();
        let mut acts = schedule(whole).into_iter().peekable();
        let mut told = Instant::now();
        while began.elapsed() < whole {
            tokio::select! {
                () = self.interrupts.next() => {
                    self.narrator.say("stopping  as asked");
                    break;
                }
                () = tokio::time::sleep(TICK) => {}
            }
            if let Some((_, act)) = acts.next_if(|(at, _)| began.elapsed() >= *at) {
                self.act(act).await?;
            }
            self.tell_mints();
            self.tell_caught_up();
            if told.elapsed() >= TELL {
                told = Instant::now();
                self.tell_counts().await;
            }
        }
        Ok(())
    }

    async fn act(&mut self, act: Act) -> io::Result<()> {
        match act {
            Act::UpstreamGoes => {
                self.upstream.kill();
                self.narrator
                    .say("upstream  killed; what is accepted now waits on disk");
            }
            Act::UpstreamReturns => {
                self.upstream.recover().await?;
                self.catching_up = Some((Instant::now(), self.sample.accepted()));
                self.narrator.say("upstream  recovered");
            }
            Act::AgentIsKilled => {
                let Some(agent) = self.agent.take() else { return Ok(()) };
                let pid = agent.pid().unwrap_or_default();
                agent.kill().await?;
                let (accepted, delivered) = self.counts();
                self.narrator.say(&format!(
                    "agent     kill -9 {pid}, with {} accepted spans not delivered yet",
                    accepted.saturating_sub(delivered)
                ));
                self.tell_mints();
                let began = Instant::now();
                let agent = self.setup.start().await?;
                self.narrator.say(&format!(
                    "agent     recovered as pid {}, accepting again after {} ms",
                    agent.pid().unwrap_or_default(),
                    began.elapsed().as_millis()
                ));
                self.agent = Some(agent);
                self.starts += 1;
                self.anew = true;
            }
        }
        Ok(())
    }

    fn tell_mints(&mut self) {
        while self.told < self.issuer.minted() {
            self.told += 1;
            if std::mem::take(&mut self.anew) {
                self.narrator
                    .say(&format!("identity  obtained, with token {}", self.told));
            } else {
                self.rotations += 1;
                self.narrator
                    .say(&format!("identity  rotation {}, token {}", self.rotations, self.told));
            }
        }
    }

    fn tell_caught_up(&mut self) {
        if let Some((since, backlog)) = self.catching_up
            && self.counts().1 >= backlog
        {
            let took = since.elapsed().as_secs_f64();
            self.narrator.say(&format!(
                "upstream  has everything that waited, {took:.1} s after its return"
            ));
            self.catching_up = None;
        }
    }

    async fn tell_counts(&self) {
        let (accepted, delivered) = self.counts();
        let mut line = format!("spans     {accepted} in, {delivered} out");
        if let Some(bytes) = self
            .setup
            .status()
            .await
            .as_ref()
            .and_then(|status| status["spool"]["bytes"].as_u64())
        {
            line += &format!(", {} KiB in the spool", bytes.div_ceil(1024));
        }
        self.narrator.say(&line);
    }

    /// Accepted, and of these delivered. The agent's own spans are none of the application's.
    fn counts(&self) -> (u64, u64) {
        let accepted = self.sample.accepted();
        let missing = self
            .upstream
            .look(|record| self.sample.missing(|key| record.spans.contains_key(key)));
        (accepted, accepted.saturating_sub(missing))
    }

    /// Stops the application, waits for what is on its way, stops the agent, and reports.
    async fn finish(mut self) -> io::Result<Report> {
        // Also after trouble half-way: what was accepted is owed.
        self.upstream.recover().await?;
        self.narrator.say("sample    stops; waiting for what was accepted");
        let mut sample = self.sample;
        sample = tokio::task::spawn_blocking(move || {
            sample.stop();
            sample
        })
        .await?;
        let arrived = self
            .upstream
            .wait(|record| sample.missing(|key| record.spans.contains_key(key)) == 0);
        tokio::select! {
            () = arrived => {}
            () = tokio::time::sleep(DRAIN) => self.narrator.say("agent     did not deliver everything in time"),
            // A second Ctrl-C: somebody is in a hurry.
            () = self.interrupts.next() => self.narrator.say("stopping  at once, as asked"),
        }
        if let Some(agent) = self.agent.take() {
            agent.stop().await?;
            self.narrator.say("agent     stopped");
        }
        let accepted = sample.accepted();
        let lost = self
            .upstream
            .look(|record| sample.missing(|key| record.spans.contains_key(key)));
        let report = self.upstream.look(|record| Report {
            accepted,
            delivered: accepted - lost,
            lost,
            tokens: record.tokens.len() as u64,
            rotations: self.issuer.minted().saturating_sub(self.starts),
            refused: record.refused,
            duplicates: record.duplicates(),
        });
        self.narrator.report(&report);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acts_keep_their_order_in_a_short_demonstration_too() {
        for seconds in [1, 10, 60, 3600] {
            let whole = Duration::from_secs(seconds);
            let schedule = schedule(whole);
            assert!(schedule.is_sorted_by_key(|(at, _)| *at));
            assert!(schedule.iter().all(|(at, _)| *at < whole));
        }
    }
}
