//! Units of memory, in bytes.

/// 2^10 bytes.
pub const KIB: u64 = 1 << 10;
/// 2^20 bytes.
pub const MIB: u64 = 1 << 20;
/// 2^30 bytes.
pub const GIB: u64 = 1 << 30;
/// A page of memory.
pub const PAGE: u64 = 4 * KIB;
/// Where addresses of 32 bits end.
pub const FOUR_GIB: u64 = 4 * GIB;
