//! Where credentials are minted.
