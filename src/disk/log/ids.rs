//! The ids of a log while it is replayed. For each id, this keeps the places in the block where its
//! name, its struct and its attributes are. Nothing is copied or allocated for a single id.

use std::sync::Arc;

use super::RawEntry;
use crate::disk::{Part, Tag, tag};

/// The index that ends a chain of attributes.
const END: u32 = u32::MAX;

/// The place of a tag's data in the block: its first byte, and its length in bytes.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: u32,
    len: u32,
}

impl Span {
    fn bytes(self, block: &[u8]) -> &[u8] {
        let start = self.at as usize;
        block.get(start..start + self.len as usize).unwrap_or_default()
    }

    fn part(self, block: &Arc<[u8]>) -> Part {
        Part::of(block, self.at..self.at + self.len)
    }
}

/// What the log holds for one id.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Type and data of the name tag.
    name: Option<(u16, Span)>,
    /// Type and data of the struct tag.
    data: Option<(u16, Span)>,
    /// The index of its first attribute.
    attrs: u32,
}

impl Slot {
    const EMPTY: Self = Self { name: None, data: None, attrs: END };
}

/// An attribute. The attributes of one id form a chain.
#[derive(Debug, Clone, Copy)]
struct Attr {
    ty: u8,
    data: Span,
    /// The index of the next attribute of the same id.
    next: u32,
}

/// The ids of a log.
#[derive(Debug, Default)]
pub(super) struct Ids {
    slots: Vec<Slot>,
    /// The attributes of all ids, including those that were replaced or deleted. There are at most
    /// as many as the log has tags.
    attrs: Vec<Attr>,
}

impl Ids {
    /// The number of ids.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The type of the name tag of an id, if it has one.
    pub fn name_type(&self, id: usize) -> Option<u16> {
        Some(self.slots.get(id)?.name?.0)
    }

    /// Apply a tag that concerns an id. Its data starts at byte `at` of the block.
    #[inline]
    pub fn apply(&mut self, t: Tag, at: u32) {
        let id = usize::from(t.id());
        let has_id = t.id() != tag::ID_NONE;
        let data = Span { at, len: t.size() };
        match (t.type1(), t.type3()) {
            (tag::NAME, ty) if has_id => {
                // an id may appear without a CREATE tag, as all ids do after a compaction
                while id >= self.slots.len() {
                    self.slots.push(Slot::EMPTY);
                }
                if let Some(slot) = self.slots.get_mut(id) {
                    slot.name = Some((ty, data));
                }
            }
            (_, tag::CREATE) if has_id && self.slots.len() < usize::from(tag::ID_NONE) => {
                if id > self.slots.len() {
                    self.slots.resize(id, Slot::EMPTY);
                }
                self.slots.insert(id, Slot::EMPTY);
            }
            (_, tag::DELETE) if id < self.slots.len() => _ = self.slots.remove(id),
            (tag::STRUCT, ty) => {
                if let Some(slot) = self.slots.get_mut(id) {
                    slot.data = (!t.is_deleted()).then_some((ty, data));
                }
            }
            (tag::USERATTR, _) => self.set_attr(id, t.chunk(), (!t.is_deleted()).then_some(data)),
            _ => {}
        }
    }

    /// Set the attribute `ty` of an id to `data`, as the last one that was written, or remove it.
    fn set_attr(&mut self, id: usize, ty: u8, data: Option<Span>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let (mut last, mut at) = (END, slot.attrs);
        while let Some(&attr) = self.attrs.get(at as usize) {
            if attr.ty != ty {
                last = at;
            } else if let Some(before) = self.attrs.get_mut(last as usize) {
                before.next = attr.next;
            } else {
                slot.attrs = attr.next;
            }
            at = attr.next;
        }
        if let Some(data) = data {
            let new = self.attrs.len() as u32;
            match self.attrs.get_mut(last as usize) {
                Some(before) => before.next = new,
                None => slot.attrs = new,
            }
            self.attrs.push(Attr { ty, data, next: END });
        }
    }

    /// The attributes of one id.
    fn attrs_of(&self, slot: Slot) -> impl Iterator<Item = Attr> {
        let get = |at: u32| self.attrs.get(at as usize).copied();
        std::iter::successors(get(slot.attrs), move |attr| get(attr.next))
    }

    /// A copy of what the log holds for an id.
    pub fn entry(&self, id: usize, block: &[u8]) -> Option<RawEntry> {
        let slot = *self.slots.get(id)?;
        let copy = |span: Span| Part::from(span.bytes(block));
        let attrs: Vec<(u8, Part)> =
            self.attrs_of(slot).map(|attr| (attr.ty, copy(attr.data))).collect();
        Some(RawEntry {
            name_type: slot.name.map(|(ty, _)| ty),
            name: slot.name.map(|(_, name)| copy(name)).unwrap_or_default(),
            data: slot.data.map(|(ty, data)| (ty, copy(data))),
            attrs: attrs.into(),
        })
    }

    /// What the log holds for all ids. The entries share one copy of `block`.
    pub fn into_entries(self, block: &[u8]) -> Vec<RawEntry> {
        let block: Arc<[u8]> = block.into();
        let mut all: Vec<(u8, Part)> = Vec::new();
        if !self.attrs.is_empty() {
            for &slot in &self.slots {
                all.extend(self.attrs_of(slot).map(|attr| (attr.ty, attr.data.part(&block))));
            }
        }
        let all: Arc<[(u8, Part)]> = all.into();
        let mut start = 0;
        let entry = |&slot: &Slot| {
            let end = start + self.attrs_of(slot).count() as u32;
            let attrs = Part::of(&all, start..end);
            start = end;
            RawEntry {
                name_type: slot.name.map(|(ty, _)| ty),
                name: slot.name.map(|(_, name)| name.part(&block)).unwrap_or_default(),
                data: slot.data.map(|(ty, data)| (ty, data.part(&block))),
                attrs,
            }
        };
        self.slots.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::tag::{CREATE, DELETE, LEN_DELETED, REG, USERATTR};

    /// The attributes of id `id`, as types and data.
    fn attrs(ids: &Ids, id: usize, block: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let entry = ids.entry(id, block).expect("an entry");
        entry.attrs.iter().map(|(ty, data)| (*ty, data.to_vec())).collect()
    }

    #[test]
    fn attributes_follow_their_id_in_the_order_of_the_last_writes() {
        let block = b"0123456789";
        let mut ids = Ids::default();
        let set = |ids: &mut Ids, ty: u16, id, at| ids.apply(Tag::new(USERATTR + ty, id, 1), at);
        ids.apply(Tag::new(REG, 0, 1), 0);
        for (ty, at) in [(1, 1), (2, 2), (3, 3)] {
            set(&mut ids, ty, 0, at);
        }
        set(&mut ids, 9, 5, 9);
        assert_eq!(attrs(&ids, 0, block), [1, 2, 3].map(|ty| (ty, vec![b'0' + ty])));
        // another id before it, with an attribute of the same type
        ids.apply(Tag::new(CREATE, 0, 0), 0);
        set(&mut ids, 1, 0, 7);
        set(&mut ids, 1, 1, 4);
        ids.apply(Tag::new(USERATTR + 2, 1, LEN_DELETED), 0);
        assert_eq!(attrs(&ids, 0, block), [(1, b"7".to_vec())]);
        assert_eq!(attrs(&ids, 1, block), [(3, b"3".to_vec()), (1, b"4".to_vec())]);
        // the last one is deleted, and a new one follows those before
        ids.apply(Tag::new(USERATTR + 1, 1, LEN_DELETED), 0);
        set(&mut ids, 2, 1, 5);
        assert_eq!(attrs(&ids, 1, block), [(3, b"3".to_vec()), (2, b"5".to_vec())]);
        ids.apply(Tag::new(DELETE, 0, 0), 0);
        let copies = [ids.entry(0, block).expect("an entry")];
        let shared = ids.into_entries(block);
        assert_eq!(shared.len(), 1);
        assert_eq!((&shared[0].attrs, &*shared[0].name), (&copies[0].attrs, &b"0"[..]));
    }
}
