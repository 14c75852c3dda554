//! Everything that is logged, at the most talkative level.

use std::sync::{Arc, Mutex, Once};

#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// While the guard lives, what this thread logs is kept here: the loop of a test's runtime, the client and
    /// everything below it.
    pub fn capture(&self) -> tracing::subscriber::DefaultGuard {
        // A place that logs asks once whether anybody listens, and of the thread that comes there first. Where that is
        // another test's, to which nobody listens, nothing would be kept here either.
        static LISTENER: Once = Once::new();
        LISTENER.call_once(|| {
            // Any other one would do.
            let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        });
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panicked")).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
