//! Firstlight on Xen 4.20.

mod xen;

xen::tests!(V4_20);
