//! Sorting for a ROM: the library's sorts are made for long lists and cost up to 10 KiB for each type that they sort.

use alloc::vec::Vec;

/// Sorts a short list in place by `key`, which is asked once for each element; equal elements keep their order.
pub fn by_key<T, K: Ord>(list: &mut [T], key: impl FnMut(&T) -> K) {
    if list.len() < 2 {
        return;
    }
    let mut keys: Vec<K> = list.iter().map(key).collect();
    for sorted in 1..list.len() {
        let mut at = sorted;
        while at > 0 && keys[at - 1] > keys[at] {
            keys.swap(at - 1, at);
            list.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::by_key;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_like_the_library(list in prop::collection::vec((any::<u8>(), any::<u8>()), 0..50)) {
            let (mut ours, mut theirs) = (list.clone(), list);
            by_key(&mut ours, |pair| pair.0);
            theirs.sort_by_key(|pair| pair.0);
            prop_assert_eq!(ours, theirs);
        }
    }
}
