//! Structures at fixed addresses, as fields that are read and written one by one.

use crate::arch::PhysMem;
use core::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One field in guest memory, by physical address.
pub struct Field<T> {
    addr: u64,
    kind: PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Field<T> {
    /// The field at physical address `addr`.
    pub const fn at(addr: u64) -> Self {
        Self {
            addr,
            kind: PhantomData,
        }
    }

    /// Its physical address.
    pub const fn addr(&self) -> u64 {
        self.addr
    }

    /// Its value.
    pub fn get(&self, hw: &impl PhysMem) -> T {
        hw.read_as(self.addr)
    }

    /// Stores `value`.
    pub fn set(&self, hw: &impl PhysMem, value: T) {
        hw.write_as(self.addr, &value);
    }

    /// Stores what `change` makes of the value, and returns it.
    pub fn update(&self, hw: &impl PhysMem, change: impl FnOnce(T) -> T) -> T
    where
        T: Copy,
    {
        let value = change(self.get(hw));
        self.set(hw, value);
        value
    }
}

impl<T: FromBytes + IntoBytes + Immutable, const N: usize> Field<[T; N]> {
    /// Element `index`, where there is one.
    pub fn element(&self, index: usize) -> Option<Field<T>> {
        (index < N).then(|| Field::at(self.addr + (index * size_of::<T>()) as u64))
    }
}

/// Declares a packed structure with the offset of every field, checked at compile time, and for each field a function that
/// gives its place as a [`Field`].
macro_rules! layout {
    (
        $(#[$about:meta])*
        $name:ident at $base:expr, $size:literal bytes;
        $($(#[$note:meta])* $offset:literal $field:ident: $kind:ty,)*
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr(C, packed)]
        pub struct $name {
            $($(#[$note])* pub $field: $kind,)*
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
        };

        impl $name {
            $($(#[$note])*
            pub const fn $field() -> $crate::bios::layout::Field<$kind> {
                $crate::bios::layout::Field::at($base + $offset)
            })*
        }
    };
}
pub(crate) use layout;
