//! Secrets: zeroed on drop, unprintable, and in no core file.
use rustix::process::{Resource, Rlimit, setrlimit};
use zeroize::Zeroizing;

/// From now on no core file is written of this process or of what it starts. Called before there is a secret in memory.
///
/// One byte is less than any core file, and the only limit that also holds where cores are piped to a program: a limit of
/// 0 would be that program's to heed (core(5)), while 1 is how the kernel knows a dump that it must not begin.
pub fn leave_no_core_file() {
    let none = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    // A limit may always be lowered (setrlimit(2)): this fails only where it is 0 already.
    let _ = setrlimit(Resource::Core, none);
}

/// A token. Its `Debug` prints `"..."`; there is no `Display`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over: it is zeroed on drop.
    pub fn new(value: String) -> Secret {
        Secret(Zeroizing::new(value))
    }
    /// The only way to the value: every use is greppable.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"...\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_printing_shows_the_value() {
        let secret = Secret::new("canary-77d2".into());
        for shown in [
            format!("{secret:?}"),
            format!("{secret:#?}"),
            format!("{:?}", Some(&secret)),
        ] {
            assert!(!shown.contains("canary"), "{shown}");
        }
        assert_eq!(secret.expose(), "canary-77d2");
    }

    #[test]
    fn no_panic_over_one_shows_the_value() {
        let over = || {
            let refused: Result<(), Secret> = std::hint::black_box(Err(Secret::new("canary-77d2".into())));
            refused.expect("it is there");
        };
        let payload = std::panic::catch_unwind(over).expect_err("it is not");
        let text = payload.downcast_ref::<String>().expect("a message");
        assert!(text.contains("it is there") && !text.contains("canary"), "{text}");
    }
}
