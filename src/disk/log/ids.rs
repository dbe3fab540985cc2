//! The ids of a log. For each id, this keeps the places in the block where its name, its struct and
//! its attributes are. Nothing is copied or allocated for a single id.

use std::sync::Arc;

use super::RawEntry;
use crate::disk::entry::Content;
use crate::disk::num::{low8, low16, saturate, widen};
use crate::disk::{Part, Tag, tag};

/// The index that ends a chain of attributes.
const END: u32 = u32::MAX;

/// A tag with the place of its data in the block.
#[derive(Debug, Clone, Copy)]
struct Field {
    /// The first byte of the data.
    at: u32,
    /// The length of the data in bytes.
    len: u16,
    /// The 11-bit type of the tag, or [`Field::NO_TYPE`].
    ty: u16,
}

impl Field {
    const NO_TYPE: u16 = u16::MAX;
    const NONE: Self = Self { at: 0, len: 0, ty: Self::NO_TYPE };

    /// The data of a tag has at most 1022 bytes, so its length fits.
    fn new(t: Tag, at: u32) -> Self {
        Self { at, len: low16(t.size()), ty: t.type3() }
    }

    fn ty(self) -> Option<u16> {
        (self.ty != Self::NO_TYPE).then_some(self.ty)
    }

    /// The type of an attribute, which is the chunk of its tag.
    fn attr_type(self) -> u8 {
        low8(self.ty.into())
    }

    fn bytes(self, block: &[u8]) -> &[u8] {
        let start = widen(self.at);
        block.get(start..start.saturating_add(self.len.into())).unwrap_or_default()
    }

    fn part(self, block: &Arc<[u8]>) -> Part {
        // a range that wrapped around would be empty, and no block is so large
        Part::of(block, self.at..self.at.wrapping_add(self.len.into()))
    }
}

/// What the log holds for one id.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The name tag.
    name: Field,
    /// The struct tag.
    data: Field,
    /// The index of its first attribute.
    attrs: u32,
}

impl Slot {
    const EMPTY: Self = Self { name: Field::NONE, data: Field::NONE, attrs: END };

    /// Whether it has neither a name nor a struct.
    fn is_empty(&self) -> bool {
        self.name.ty().is_none() && self.data.ty().is_none()
    }
}

/// An attribute. The attributes of one id form a chain.
#[derive(Debug, Clone, Copy)]
struct Attr {
    data: Field,
    /// The index of the next attribute of the same id.
    next: u32,
}

/// The ids of a log while it is replayed.
#[derive(Debug, Default)]
pub(super) struct Ids {
    slots: Vec<Slot>,
    /// The attributes of all ids, including those that were replaced or deleted. There are at most
    /// as many as the log has tags.
    attrs: Vec<Attr>,
}

impl Ids {
    /// No ids, with room for this many.
    pub fn with_capacity(count: usize) -> Self {
        Self { slots: Vec::with_capacity(count), attrs: Vec::new() }
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The type of the name tag of an id, if it has one.
    pub fn name_type(&self, id: usize) -> Option<u16> {
        self.slots.get(id)?.name.ty()
    }

    /// Apply a name tag. Its data starts at byte `at` of the block, as in all of these methods.
    #[inline]
    pub fn set_name(&mut self, t: Tag, at: u32) {
        if t.id() == tag::ID_NONE {
            return;
        }
        let id = usize::from(t.id());
        // an id may appear without a CREATE tag, as all ids do after a compaction
        while id >= self.slots.len() {
            self.slots.push(Slot::EMPTY);
        }
        if let Some(slot) = self.slots.get_mut(id) {
            slot.name = Field::new(t, at);
        }
    }

    /// Apply a struct tag.
    #[inline]
    pub fn set_struct(&mut self, t: Tag, at: u32) {
        if let Some(slot) = self.slots.get_mut(usize::from(t.id())) {
            slot.data = if t.is_deleted() { Field::NONE } else { Field::new(t, at) };
        }
    }

    /// Apply a CREATE tag, which shifts the ids from its own on.
    pub fn create(&mut self, id: u16) {
        let at = usize::from(id);
        if id == tag::ID_NONE || self.slots.len() >= usize::from(tag::ID_NONE) {
            return;
        }
        if at > self.slots.len() {
            self.slots.resize(at, Slot::EMPTY);
        }
        self.slots.insert(at, Slot::EMPTY);
    }

    /// Apply a DELETE tag, which shifts the ids behind its own back.
    pub fn delete(&mut self, id: u16) {
        if usize::from(id) < self.slots.len() {
            self.slots.remove(usize::from(id));
        }
    }

    /// Apply a tag of an attribute. An attribute that is set becomes the last one of its id, as in
    /// the order of the log.
    pub fn set_attr(&mut self, t: Tag, at: u32) {
        let Some(slot) = self.slots.get_mut(usize::from(t.id())) else { return };
        let (mut last, mut next) = (END, slot.attrs);
        while let Some(&attr) = self.attrs.get(widen(next)) {
            if attr.data.ty != t.type3() {
                last = next;
            } else if let Some(before) = self.attrs.get_mut(widen(last)) {
                before.next = attr.next;
            } else {
                slot.attrs = attr.next;
            }
            next = attr.next;
        }
        if !t.is_deleted() {
            let new = saturate(self.attrs.len());
            match self.attrs.get_mut(widen(last)) {
                Some(before) => before.next = new,
                None => slot.attrs = new,
            }
            self.attrs.push(Attr { data: Field::new(t, at), next: END });
        }
    }

    /// A copy of what the log holds for an id.
    pub fn entry(&self, id: usize, block: &[u8]) -> Option<RawEntry> {
        let slot = *self.slots.get(id)?;
        let copy = |field: Field| Part::from(field.bytes(block));
        let attrs: Vec<(u8, Part)> =
            attrs_of(slot, &self.attrs).map(|attr| (attr.attr_type(), copy(attr))).collect();
        Some(RawEntry {
            name_type: slot.name.ty(),
            name: copy(slot.name),
            data: slot.data.ty().map(|ty| (ty, copy(slot.data))),
            attrs: attrs.into(),
        })
    }

    /// What the log holds for all ids. `block` are its bytes.
    pub fn pack(self, block: Arc<[u8]>) -> Packed {
        Packed { block, slots: self.slots.into(), attrs: self.attrs.into() }
    }
}

/// The attributes of one id.
fn attrs_of(slot: Slot, attrs: &[Attr]) -> impl Iterator<Item = Field> {
    let get = |at: u32| attrs.get(widen(at)).copied();
    std::iter::successors(get(slot.attrs), move |attr| get(attr.next)).map(|attr| attr.data)
}

/// The entries of a log as its bytes, with the places of the tags that count. This takes little
/// memory and time, whatever the number of entries.
#[derive(Debug, Default, Clone)]
pub struct Packed {
    block: Arc<[u8]>,
    slots: Box<[Slot]>,
    attrs: Box<[Attr]>,
}

impl Packed {
    /// What the log holds for one id.
    pub fn get(&self, id: usize) -> Option<PackedEntry<'_>> {
        self.slots.get(id).map(|&slot| PackedEntry { packed: self, slot })
    }

    /// The number of ids.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What the log holds for each id.
    pub fn iter(&self) -> impl Iterator<Item = PackedEntry<'_>> {
        self.slots.iter().map(|&slot| PackedEntry { packed: self, slot })
    }

    /// Type and length in bytes of each attribute.
    pub fn attrs(&self) -> impl Iterator<Item = (u8, u16)> {
        let entries = if self.attrs.is_empty() { &[][..] } else { &*self.slots };
        let filled = entries.iter().filter(|slot| !slot.is_empty());
        filled
            .flat_map(|&slot| attrs_of(slot, &self.attrs))
            .map(|attr| (attr.attr_type(), attr.len))
    }

    /// How many bytes of memory it takes.
    pub fn footprint(&self) -> usize {
        let places = size_of_val(&*self.slots).saturating_add(size_of_val(&*self.attrs));
        self.block.len().saturating_add(places)
    }

    /// Whether others share the bytes of the log.
    #[cfg(test)]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.block) > 1
    }

    /// The entries one by one. They share the bytes of the log.
    pub fn unpack(&self) -> Vec<RawEntry> {
        let mut all: Vec<(u8, Part)> = Vec::new();
        if !self.attrs.is_empty() {
            self.iter().for_each(|entry| all.extend(entry.attr_parts()));
        }
        let all: Arc<[(u8, Part)]> = all.into();
        let mut start = 0_u32;
        let entry = |entry: PackedEntry<'_>| {
            let count = attrs_of(entry.slot, &self.attrs).count();
            let end = start.saturating_add(saturate(count));
            let attrs = Part::of(&all, start..end);
            start = end;
            RawEntry {
                name_type: entry.name_type(),
                name: entry.name_part(),
                data: entry.slot.data.ty().map(|ty| (ty, entry.data_part())),
                attrs,
            }
        };
        self.iter().map(entry).collect()
    }
}

/// What a packed log holds for one id.
#[derive(Debug, Clone, Copy)]
pub struct PackedEntry<'a> {
    packed: &'a Packed,
    slot: Slot,
}

impl<'a> PackedEntry<'a> {
    /// The type of the name tag, if a name was written.
    pub fn name_type(self) -> Option<u16> {
        self.slot.name.ty()
    }

    /// The name.
    pub fn name(self) -> &'a [u8] {
        self.slot.name.bytes(&self.packed.block)
    }

    /// The name, in the bytes that the entries of the log share.
    pub fn name_part(self) -> Part {
        self.slot.name.part(&self.packed.block)
    }

    /// The content that its struct describes.
    pub fn content(self) -> Content<'a> {
        let Some(ty) = self.slot.data.ty() else { return Content::Missing };
        Content::decode(ty, self.slot.data.bytes(&self.packed.block))
    }

    /// The data of the struct, in the bytes that the entries of the log share.
    pub fn data_part(self) -> Part {
        self.slot.data.part(&self.packed.block)
    }

    /// Whether it has neither a name nor a struct.
    pub fn is_empty(self) -> bool {
        self.slot.is_empty()
    }

    /// User attributes: type and data, in the bytes that the entries of the log share.
    pub fn attr_parts(self) -> impl Iterator<Item = (u8, Part)> {
        let block = &self.packed.block;
        attrs_of(self.slot, &self.packed.attrs).map(|attr| (attr.attr_type(), attr.part(block)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::tag::{LEN_DELETED, REG, USERATTR};

    /// The attributes of id `id`, as types and data.
    fn attrs(ids: &Ids, id: usize, block: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let entry = ids.entry(id, block).expect("an entry");
        entry.attrs.iter().map(|(ty, data)| (*ty, data.to_vec())).collect()
    }

    #[test]
    fn attributes_follow_their_id_in_the_order_of_the_last_writes() {
        let block = b"0123456789";
        let mut ids = Ids::default();
        let set = |ids: &mut Ids, ty: u16, id, at| ids.set_attr(Tag::new(USERATTR + ty, id, 1), at);
        ids.set_name(Tag::new(REG, 0, 1), 0);
        for (ty, at) in [(1, 1), (2, 2), (3, 3)] {
            set(&mut ids, ty, 0, at);
        }
        set(&mut ids, 9, 5, 9);
        assert_eq!(attrs(&ids, 0, block), [1, 2, 3].map(|ty| (ty, vec![b'0' + ty])));
        // another id before it, with an attribute of the same type
        ids.create(0);
        set(&mut ids, 1, 0, 7);
        set(&mut ids, 1, 1, 4);
        ids.set_attr(Tag::new(USERATTR + 2, 1, LEN_DELETED), 0);
        assert_eq!(attrs(&ids, 0, block), [(1, b"7".to_vec())]);
        assert_eq!(attrs(&ids, 1, block), [(3, b"3".to_vec()), (1, b"4".to_vec())]);
        // the last one is deleted, and a new one follows those before
        ids.set_attr(Tag::new(USERATTR + 1, 1, LEN_DELETED), 0);
        set(&mut ids, 2, 1, 5);
        assert_eq!(attrs(&ids, 1, block), [(3, b"3".to_vec()), (2, b"5".to_vec())]);
        ids.delete(0);
        let copies = [ids.entry(0, block).expect("an entry")];
        let shared = ids.pack(block[..].into()).unpack();
        assert_eq!(shared.len(), 1);
        assert_eq!((&shared[0].attrs, &*shared[0].name), (&copies[0].attrs, &b"0"[..]));
    }
}
