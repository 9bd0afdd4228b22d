//! Firstlight on Xen 4.17.

mod xen;

xen::tests!(V4_17);
