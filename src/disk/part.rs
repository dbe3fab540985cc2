//! Slices that share their memory. The names, the content and the attributes of entries are parts
//! of the bytes of their log, which are in memory only once.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::num::widen;

/// A slice that is either a part of a whole, which other parts share, or has its own memory.
///
/// It can be read like a slice. A change gives it its own memory. Until then it keeps the whole in
/// memory, so a part that may live much longer than the others must be detached or copied.
pub struct Part<T = u8>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    /// The elements from the first index up to the second one.
    Of(Arc<[T]>, u32, u32),
    Own(Box<[T]>),
}

impl<T> Part<T> {
    /// The elements in `range` of `whole`; none if `range` goes beyond its end.
    pub fn of(whole: &Arc<[T]>, range: Range<u32>) -> Self {
        let Range { start, end } = range;
        if start >= end || widen(end) > whole.len() {
            return Self::default();
        }
        Self(Held::Of(Arc::clone(whole), start, end))
    }
}

impl<T: Clone> Part<T> {
    /// The elements as a vector. They are copied if they are shared.
    pub fn into_vec(self) -> Vec<T> {
        match self.0 {
            Held::Own(own) => own.into_vec(),
            Held::Of(..) => self.to_vec(),
        }
    }

    /// A copy of the elements.
    pub fn to_box(&self) -> Box<[T]> {
        (**self).into()
    }

    /// Give the part its own memory, so that it does not keep the whole in memory.
    pub fn detach(&mut self) {
        self.make_mut();
    }

    /// The elements, for changing them in place. The part gets its own memory.
    pub fn make_mut(&mut self) -> &mut [T] {
        if let Held::Of(..) = self.0 {
            self.0 = Held::Own(self.to_box());
        }
        match &mut self.0 {
            Held::Own(own) => own,
            Held::Of(..) => &mut [],
        }
    }

    /// Change the elements as a vector. The part gets its own memory.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut elements = std::mem::take(self).into_vec();
        let result = change(&mut elements);
        *self = elements.into();
        result
    }
}

/// Copy the elements of some parts into one new whole, which these parts share. Parts whose indices
/// in the new whole would have more than 32 bits stay as they are.
pub fn gather<'a, T: Clone + 'a>(parts: impl Iterator<Item = &'a mut Part<T>>) {
    let parts: Vec<&mut Part<T>> = parts.collect();
    let whole: Vec<T> = parts.iter().flat_map(|part| part.iter().cloned()).collect();
    let whole: Arc<[T]> = whole.into();
    let mut start = 0_u32;
    for part in parts {
        let len = u32::try_from(part.len()).ok();
        let Some(end) = len.and_then(|len| start.checked_add(len)) else { return };
        *part = Part::of(&whole, start..end);
        start = end;
    }
}

impl<T> Deref for Part<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::Of(whole, start, end) => {
                whole.get(widen(*start)..widen(*end)).unwrap_or_default()
            }
            Held::Own(own) => own,
        }
    }
}

impl<'a, T> IntoIterator for &'a Part<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self(Held::Own(Box::default()))
    }
}

impl<T: Clone> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> From<Vec<T>> for Part<T> {
    fn from(elements: Vec<T>) -> Self {
        elements.into_boxed_slice().into()
    }
}

impl<T> From<Box<[T]>> for Part<T> {
    fn from(elements: Box<[T]>) -> Self {
        Self(Held::Own(elements))
    }
}

impl<T: Clone> From<&[T]> for Part<T> {
    fn from(elements: &[T]) -> Self {
        Box::<[T]>::from(elements).into()
    }
}

impl<T: Clone, const N: usize> From<[T; N]> for Part<T> {
    fn from(elements: [T; N]) -> Self {
        elements[..].into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Part<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Part<T> {}

impl<T: PartialOrd> PartialOrd for Part<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (**self).partial_cmp(&**other)
    }
}

impl<T: Ord> Ord for Part<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: Hash> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_no_more_than_its_range_of_the_whole() {
        let whole: Arc<[u8]> = b"name and content"[..].into();
        let name = Part::of(&whole, 0..4);
        assert_eq!(*name, *b"name");
        assert_eq!(Arc::strong_count(&whole), 2, "it shares the bytes");
        for outside in [12..17, 17..18, 4..4, Range { start: 5, end: 4 }] {
            assert!(Part::of(&whole, outside).is_empty());
        }
        assert_eq!(Arc::strong_count(&whole), 2, "empty parts keep nothing in memory");
        assert!(size_of::<Part>() <= 24, "{} bytes", size_of::<Part>());
    }

    #[test]
    fn gathered_parts_leave_their_whole() {
        let whole: Arc<[u8]> = b"name and content"[..].into();
        let mut parts = [9..16, 3..3, 0..4].map(|range| Part::of(&whole, range));
        gather(parts.iter_mut());
        assert_eq!(parts.map(|part| part.to_box()), [&b"content"[..], b"", b"name"].map(Box::from));
        assert_eq!(Arc::strong_count(&whole), 1);
    }

    #[test]
    fn a_changed_part_has_its_own_memory() {
        let whole: Arc<[u8]> = b"name and content"[..].into();
        let mut changed = Part::of(&whole, 9..16);
        let kept = changed.clone();
        changed.change(|bytes| bytes.truncate(3));
        assert_eq!((&*changed, &*kept), (&b"con"[..], &b"content"[..]));
        let mut other = kept.clone();
        other.make_mut()[0] = b'C';
        assert_eq!((&*other, &*kept), (&b"Content"[..], &b"content"[..]));
        let mut detached = kept.clone();
        detached.detach();
        assert_eq!((&detached, detached.to_box()), (&kept, kept.to_box()));
        drop(kept);
        assert_eq!(Arc::strong_count(&whole), 1, "none of them keeps the whole");
        assert_eq!(detached.into_vec(), b"content");
    }
}
