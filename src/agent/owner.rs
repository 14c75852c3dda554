//! Whose the telemetry of the moment is: gives what is pending to the first principal, tells the intake whose log it
//! writes, and lets what absent principals left grow old.
//!
//! Who is absent is known only once somebody is there: until then nothing is too old. What came while there was no
//! upstream belongs to nobody, whoever was there: it was said to stay here, and so it does when there is one.

use std::time::{Duration, SystemTime};

use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    identity,
    spool::{Owner, Spool},
};

/// How often absent principals' spools are looked at for what is too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// After what is pending could not be adopted: a full disk may have room again.
const ADOPT_AGAIN: Duration = Duration::from_secs(10);

/// Who owns what comes first: this start's pending spool, or nobody where nothing is sent. What nobody owns is history
/// from the first start on that has an upstream.
pub(super) async fn first(spool: &Spool, sends: bool) -> Owner {
    let nobody = Owner::nobody();
    if !sends {
        return nobody;
    }
    if let Err(error) = spool.let_go(&nobody).await {
        tracing::warn!(%error, "what was kept while there was no upstream still counts as unsent");
    }
    spool.pending()
}

/// Runs until the shutdown. What nobody owns stays so.
pub(super) async fn keep(
    mut identity: identity::Receiver,
    spool: Spool,
    owner: watch::Sender<Owner>,
    shutdown: CancellationToken,
) {
    if *owner.borrow() == Owner::nobody() {
        return;
    }
    let mut expire = tokio::time::interval(EXPIRE_EVERY);
    // However long nobody was here, to look once is enough.
    expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Meanwhile somebody else may come: to delete takes long.
    let mut looks = JoinSet::new();
    let mut present: Option<Owner> = None;
    // Whether they have what was pending.
    let mut adopted = false;
    loop {
        if let Some(principal) = identity.current().principal {
            let new = Owner(principal.fingerprint());
            let is_new = present.as_ref() != Some(&new);
            if is_new || !adopted {
                let adoption = spool.adopt(&new).await;
                adopted = adoption.is_ok();
                // The data stays pending, and that is said once.
                if let Err(error) = adoption
                    && is_new
                {
                    tracing::warn!(%error, "what is pending could not be adopted; it is tried again");
                }
            }
            if is_new {
                tracing::info!(
                    issuer = principal.issuer,
                    owner = new.0,
                    "telemetry leaves under this principal"
                );
                owner.send_replace(new.clone());
                present = Some(new);
            }
        }
        tokio::select! {
            () = identity.changed() => {}
            () = tokio::time::sleep(ADOPT_AGAIN), if present.is_some() && !adopted => {}
            // What could not be adopted yet is nobody's who is absent.
            _ = expire.tick(), if adopted && looks.is_empty() => {
                if let Some(present) = present.clone() {
                    looks.spawn(look_through(spool.clone(), present));
                }
            }
            Some(_) = looks.join_next() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn look_through(spool: Spool, present: Owner) {
    if let Err(error) = spool.expire(&present, SystemTime::now()).await {
        tracing::warn!(%error, "absent principals' spools could not be looked through");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        identity::{Principal, Store, clock::Clock},
        spool::Config,
    };

    fn open(dir: &std::path::Path, session: &str) -> Spool {
        Spool::open(Config {
            dir: dir.to_owned(),
            max_bytes: 1 << 20,
            keep_bytes: 0,
            max_age: Duration::ZERO,
            session: session.to_owned(),
            place: "place".to_owned(),
        })
        .expect("a spool")
    }

    /// [`keep`], as it runs.
    struct Keeper {
        owners: watch::Receiver<Owner>,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    impl Keeper {
        fn start(spool: &Spool, identity: identity::Receiver) -> Keeper {
            let (owner, owners) = watch::channel(spool.pending());
            let shutdown = CancellationToken::new();
            let task = tokio::spawn(keep(identity, spool.clone(), owner, shutdown.clone()));
            Keeper { owners, shutdown, task }
        }

        async fn until_known(&mut self, owner: &Owner) {
            let known = self.owners.wait_for(|known| known == owner).await;
            known.expect("it runs");
        }

        async fn end(self) {
            self.shutdown.cancel();
            self.task.await.expect("it ends");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_disk_does_not_let_adopt_is_adopted_when_it_does_though_nothing_new_is_published() {
        let dir = tempfile::tempdir().expect("a directory");
        let ada = Principal::platform("gitpod", "ada");
        let hers = Owner(ada.fingerprint());
        let spool = open(dir.path(), "session");
        let early = Bytes::from_static(b"early");
        spool
            .append(&spool.pending(), "traces", 1, early)
            .await
            .expect("accepted");
        let in_the_way = dir.path().join(&hers.0);
        std::fs::write(&in_the_way, "").expect("a file");
        let mut keeper = Keeper::start(&spool, identity::Receiver::fixed(ada, None, None));
        keeper.until_known(&hers).await;
        assert_eq!(spool.unsent_of(&hers), 0, "there was one attempt");
        assert!(spool.stats().unadopted.is_some(), "and `status` says what came of it");
        std::fs::remove_file(&in_the_way).expect("it is there");
        until_something_is_of(&hers, &spool).await;
        assert_eq!(spool.stats().unadopted, None);
        keeper.end().await;
    }

    /// Time goes on while the spool's thread is waited for.
    async fn until_something_is_of(owner: &Owner, spool: &Spool) {
        while spool.unsent_of(owner) == 0 {
            spool.let_go(&Owner::nobody()).await.expect("there is nothing");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn promise_5_what_comes_is_of_who_is_here_also_while_what_was_pending_cannot_be_adopted() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = open(dir.path(), "before");
        let early = Bytes::from_static(b"early");
        let put = spool.append(&spool.pending(), "traces", 1, early).await;
        put.expect("accepted");
        spool.close().await;
        drop(spool);

        let spool = open(dir.path(), "session");
        let (store, identity) = Store::new("test", Clock::System);
        let mut keeper = Keeper::start(&spool, identity);
        let people = ["ada", "bob"].map(|name| Principal::platform("gitpod", name));
        let [hers, his] = people.clone().map(|person| Owner(person.fingerprint()));
        for in_the_way in [&hers, &his] {
            std::fs::write(dir.path().join(&in_the_way.0), "").expect("a file");
        }
        for person in people {
            let theirs = Owner(person.fingerprint());
            store.rotate(person, None, None);
            keeper.until_known(&theirs).await;
        }
        for in_the_way in [&hers, &his] {
            std::fs::remove_file(dir.path().join(&in_the_way.0)).expect("it is there");
        }
        until_something_is_of(&his, &spool).await;
        keeper.end().await;
        assert_eq!(spool.unsent_of(&hers), 0);
        assert_eq!(spool.stats().books["traces"].expired, 0, "nobody was absent for long");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_limit_is_still_there_for_who_logs_in_an_hour_after_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let ada = Principal::platform("gitpod", "ada");
        let spool = open(dir.path(), "before the weekend");
        let left = Bytes::from_static(b"left");
        let hers = Owner(ada.fingerprint());
        spool.append(&hers, "traces", 1, left).await.expect("accepted");
        spool.close().await;
        drop(spool);

        let spool = open(dir.path(), "after it");
        let (store, identity) = Store::new("test", Clock::System);
        let mut keeper = Keeper::start(&spool, identity);
        tokio::task::yield_now().await;
        tokio::time::advance(EXPIRE_EVERY).await;
        store.rotate(ada, None, None);
        keeper.until_known(&hers).await;
        keeper.end().await;
        assert_eq!(spool.stats().books["traces"].pending, 1);
    }
}
