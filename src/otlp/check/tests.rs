//! What may be kept, what is taken out, what is refused whole.

use super::*;
