//! What still has an effect: which tags are not replaced by later ones.

use super::{Dissection, Placed};
use crate::disk::{Tag, tag};

impl Dissection {
    /// The tags of all valid commits, in their order.
    pub fn tags(&self) -> impl Iterator<Item = Placed> {
        self.commits.iter().flat_map(|commit| commit.tags.iter().copied())
    }

    /// For each of the [`tags`](Self::tags), whether it still has an effect: the id that its entry
    /// has now, or [`tag::ID_NONE`] if it does not belong to an entry. `None` if a later tag has
    /// replaced it.
    pub fn effects(&self) -> Vec<Option<u16>> {
        self.effects_where(true)
    }

    /// The same in the dialect of chamelon, where the ids of entries never change.
    pub fn effects_of_fixed_ids(&self) -> Vec<Option<u16>> {
        self.effects_where(false)
    }

    fn effects_where(&self, ids_shift: bool) -> Vec<Option<u16>> {
        let tags: Vec<Tag> = self.tags().map(|placed| placed.tag).collect();
        let mut slots: Vec<Vec<usize>> = Vec::new();
        // the places of the last tail, the last delta and the last forward CRC
        let mut last: [Option<usize>; 3] = [None; 3];
        for (at, &t) in tags.iter().enumerate() {
            let id = usize::from(t.id());
            let has_id = t.id() != tag::ID_NONE;
            match (t.type1(), t.type3()) {
                (tag::NAME, _) if has_id && id >= slots.len() => {
                    slots.resize_with(id + 1, Vec::new);
                }
                (_, tag::CREATE) if has_id && slots.len() < usize::from(tag::ID_NONE) => {
                    if id > slots.len() {
                        slots.resize_with(id, Vec::new);
                    }
                    slots.insert(id, vec![at]);
                }
                (_, tag::DELETE) if id < slots.len() && ids_shift => {
                    slots.remove(id);
                }
                (_, tag::DELETE) => slots.get_mut(id).into_iter().for_each(Vec::clear),
                (tag::TAIL, _) if t.size() >= 8 => last[0] = Some(at),
                (_, tag::MOVESTATE) if t.size() >= 12 => last[1] = Some(at),
                (_, tag::FCRC) => last[2] = Some(at),
                _ => {}
            }
            let Some(slot) = slots.get_mut(id) else { continue };
            if matches!(t.type1(), tag::NAME | tag::STRUCT | tag::USERATTR) && has_id {
                slot.retain(|&old| tags.get(old).is_none_or(|&old| !replaces(t, old)));
                if !t.is_deleted() || t.type1() == tag::NAME {
                    slot.push(at);
                }
            }
        }
        let mut effects = vec![None; tags.len()];
        for (id, slot) in (0..).zip(&slots) {
            for &at in slot {
                effects[at] = Some(id);
            }
        }
        for at in last.into_iter().flatten() {
            effects[at] = Some(tag::ID_NONE);
        }
        effects
    }
}

/// Whether a tag replaces an older one of the same entry.
fn replaces(new: Tag, old: Tag) -> bool {
    match new.type1() {
        tag::USERATTR => new.type3() == old.type3(),
        type1 => type1 == old.type1(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::block;
    use super::super::{Dissection, Stop};
    use crate::disk::{GState, tag};

    #[test]
    fn tags_keep_their_order_and_replaced_tags_have_no_effect() {
        let block = block();
        let taken = Dissection::of(&block).expect("a revision");
        assert_eq!((taken.rev, taken.commits.len(), taken.stop), (5, 2, Stop::Invalid));
        assert!(taken.open.is_empty() && taken.erased_from == taken.end);
        assert!(!taken.commits[0].forward.expect("written").matches(), "the second stands there");
        assert!(taken.commits[1].forward.expect("written").matches());
        let named: Vec<(u16, &[u8], Option<u16>)> = (taken.tags().zip(taken.effects()))
            .filter(|(placed, _)| !placed.tag.is_ccrc() && placed.tag.type3() != tag::FCRC)
            .map(|(placed, effect)| (placed.tag.type3(), placed.data(&block), effect))
            .collect();
        let end = [0xff; 8];
        let delta = GState::default().with_sync(true).to_bytes();
        let expected: Vec<(u16, &[u8], Option<u16>)> = vec![
            (tag::REG, b"gone", None),
            (tag::INLINESTRUCT, b"1", None),
            (tag::REG, b"kept", Some(0)),
            (tag::INLINESTRUCT, b"2", None),
            (tag::SOFTTAIL, &end, Some(tag::ID_NONE)),
            (tag::DELETE, b"", None),
            (tag::INLINESTRUCT, b"3", Some(0)),
            (tag::MOVESTATE, &delta, Some(tag::ID_NONE)),
        ];
        assert_eq!(named, expected);
    }
}
