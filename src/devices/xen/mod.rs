//! What Xen gives a domain beside the devices of a PC: xenstore, the grant table, and devices of other domains.

pub mod bus;
pub mod grants;
pub mod store;
