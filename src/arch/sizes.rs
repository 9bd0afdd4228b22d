//! Sizes of what follows the image in memory. build.rs reads this file, too, and tells the linker script.

/// Bytes of the stack of 64-bit code.
pub const STACK: usize = 64 << 10;
/// Bytes that the heap has at least; `entry.s` adds to it by the size of the machine.
pub const HEAP: usize = 192 << 10;

/// The page tables, by the number of the page.
pub mod page_tables {
    /// The page directory pointer table, behind the PML4.
    pub const POINTERS: usize = 1;
    /// Four page directories, for the first 4 GiB.
    pub const DIRECTORIES: usize = 2;
    /// The page directory of the window to memory above those.
    pub const WINDOW: usize = 6;
    /// Two page tables, for the 4 MiB with the image.
    pub const IMAGE: usize = 7;
    /// How many pages there are.
    pub const PAGES: usize = 9;
}
