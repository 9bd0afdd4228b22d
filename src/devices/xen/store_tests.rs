use super::*;
use crate::arch::fake::Fake;
use crate::arch::fake_xen::{FakeXen, PORT, RING};
use crate::arch::{Clock, PhysMem};
use proptest::prelude::*;

#[test]
fn reads_lists_and_writes() {
    let hw = Fake::default();
    let xen = FakeXen::new(&hw);
    xen.set("platform/acpi", "1");
    xen.set("platform/firstlight/menu", "yes");
    let mut store = Store::new(&hw, &xen, RING, PORT);
    assert_eq!(store.read("platform/acpi").unwrap(), b"1");
    assert_eq!(store.read("platform/none"), Err(StoreError::Missing));
    assert_eq!(store.directory("platform").unwrap(), ["acpi", "firstlight"]);
    store.write("x", b"some value").unwrap();
    assert_eq!(xen.store.borrow()["x"], b"some value");
}

/// The indices need not start at zero, and messages longer than the ring go through in pieces.
#[test]
fn long_messages_wrap() {
    let hw = Fake::default();
    let xen = FakeXen::new(&hw);
    for offset in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        hw.write32(RING + offset, u32::MAX - 100);
    }
    let value: Vec<u8> = (0..4000u32).map(|i| i as u8).collect();
    let mut store = Store::new(&hw, &xen, RING, PORT);
    store.write("long", &value).unwrap();
    assert_eq!(store.read("long").unwrap(), value);
    assert_eq!(store.write("long", &[0; 4096]), Err(StoreError::TooLong));
    assert_eq!(store.read("long").unwrap(), value);
    store.release();
    assert_eq!(hw.read64(RING + REQ_CONS), 0);
    assert_eq!(hw.read64(RING + RSP_CONS), 0);
}

#[test]
fn a_stray_watch_event_is_passed_over() {
    let hw = Fake::default();
    let xen = FakeXen::new(&hw);
    xen.set("a", "b");
    for word in [15u32, 0, 0, 4] {
        xen.reply(&word.to_le_bytes());
    }
    xen.reply(b"p\0t\0");
    let mut store = Store::new(&hw, &xen, RING, PORT);
    assert_eq!(store.read("a").unwrap(), b"b");
}

#[test]
fn silence_ends_and_is_not_asked_again() {
    let hw = Fake::default();
    let xen = FakeXen::new(&hw);
    xen.mute.set(true);
    let mut store = Store::new(&hw, &xen, RING, PORT);
    assert_eq!(store.read("a"), Err(StoreError::Timeout));
    let before = hw.now_us();
    assert_eq!(store.read("a"), Err(StoreError::Timeout));
    assert!(hw.now_us() - before < 1000);
    let indices = hw.read64(RING + REQ_CONS);
    store.release();
    assert_eq!(hw.read64(RING + REQ_CONS), indices);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_reply_and_any_indices_end(indices: [u32; 4], reply in prop::collection::vec(any::<u8>(), 0..100)) {
        let hw = Fake::default();
        let xen = FakeXen::new(&hw);
        xen.mute.set(true);
        xen.reply(&reply);
        for (offset, index) in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD].into_iter().zip(indices) {
            // Most of the time sensible, so that the reply is looked at.
            let index = if index % 4 == 0 { index } else { 0 };
            hw.write32(RING + offset, index);
        }
        hw.write64(RING + REQ_CONS, 0);
        let mut store = Store::new(&hw, &xen, RING, PORT);
        prop_assert!(store.read("a").is_err());
        store.release();
    }
}
