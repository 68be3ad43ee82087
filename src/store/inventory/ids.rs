//! Sets of dictionary ids: sorted, without repetitions, coded as LEB128 distances.

/// Number of an entry of the dictionary.
pub(in crate::store) type ApplicationId = u32;

/// Codes a sorted set: each id as its distance from the one before (the first from 0), in LEB128 (7 bits a
/// byte, lowest first, the eighth bit says that more follows).
pub(super) fn encode(ids: &[ApplicationId]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ids.len() + ids.len() / 2);
    let mut before = 0;
    for id in ids {
        let mut distance = id - before;
        before = *id;
        while distance >= 0x80 {
            bytes.push((distance & 0x7f) as u8 | 0x80);
            distance >>= 7;
        }
        bytes.push((distance & 0x7f) as u8);
    }
    bytes
}

/// The set in these bytes; `None` when they are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<ApplicationId>> {
    let mut ids = Vec::new();
    let (mut before, mut distance, mut shift) = (0_u32, 0_u32, 0_u32);
    for byte in bytes {
        let bits = u32::from(byte & 0x7f);
        if shift > 28 || (shift == 28 && bits > 0x0f) {
            return None;
        }
        distance |= bits << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            if distance == 0 && !ids.is_empty() {
                return None;
            }
            before = before.checked_add(distance)?;
            ids.push(before);
            (distance, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(ids)
}

/// Ids in `new` and not in `old`, and in `old` and not in `new`. All sorted.
pub(super) fn difference(
    old: &[ApplicationId],
    new: &[ApplicationId],
) -> (Vec<ApplicationId>, Vec<ApplicationId>) {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    let (mut at_old, mut at_new) = (0, 0);
    loop {
        match (old.get(at_old), new.get(at_new)) {
            (None, None) => return (added, removed),
            (Some(a), Some(b)) if a == b => (at_old, at_new) = (at_old + 1, at_new + 1),
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                removed.push(*a);
                at_old += 1;
            }
            (_, Some(b)) => {
                added.push(*b);
                at_new += 1;
            }
            (Some(a), None) => {
                removed.push(*a);
                at_old += 1;
            }
        }
    }
}

/// The set without `removed` and with `added`. All sorted, `removed` within it, `added` outside.
pub(super) fn apply(
    set: &[ApplicationId],
    added: &[ApplicationId],
    removed: &[ApplicationId],
) -> Vec<ApplicationId> {
    let mut result: Vec<ApplicationId> =
        set.iter().copied().filter(|id| removed.binary_search(id).is_err()).collect();
    result.extend_from_slice(added);
    result.sort_unstable();
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_set() -> impl Strategy<Value = Vec<ApplicationId>> {
        prop::collection::btree_set(prop_oneof![0..40_u32, any::<u32>()], 0..40)
            .prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_set_survives_its_code(set in any_set()) {
            prop_assert_eq!(decode(&encode(&set)), Some(set));
        }

        #[test]
        fn any_bytes_are_a_sorted_set_or_none(bytes: Vec<u8>) {
            if let Some(set) = decode(&bytes) {
                prop_assert!(set.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }

        #[test]
        fn a_difference_leads_from_old_to_new(old in any_set(), new in any_set()) {
            let (added, removed) = difference(&old, &new);
            prop_assert_eq!(&apply(&old, &added, &removed), &new);
        }
    }
}
