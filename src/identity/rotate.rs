//! When to mint again (pure), and the dull loop around it.
