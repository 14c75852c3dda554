//! How the allocator keeps what is freed, and the only unsafe code here.
//!
//! It belongs to the executable: the library forbids unsafe code, and leaves the allocator of whoever links it alone.

/// Twice what is joined into a request by default. What is larger is mapped by itself, and gone as soon as it is freed.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 512 * 1024;

/// What may stay for the next request. The default gives memory back after nearly each, and the kernel clears it page by
/// page for the next.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 1024 * 1024;

/// Fixes both limits, which otherwise follow the largest block that was ever freed (mallopt(3), `M_MMAP_THRESHOLD`): after
/// a few requests of 4 MiB the heap would hold several times as much as is in use. To be called before other threads
/// start. Other C libraries than glibc have no such limits.
pub fn bound() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: it takes two integers, and refuses by returning 0 what it does not know.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
