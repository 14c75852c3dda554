//! Two clocks as one value: wall time and boot time.
/// When a credential ends, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Expiry;
