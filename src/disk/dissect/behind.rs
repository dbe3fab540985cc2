//! Commits behind a damaged one: no driver reads them, because the log ends before the damaged one.
//!
//! If the data of a tag has changed, the tags behind it can be read as before. If a tag has changed,
//! this does not work, because each tag is XORed with the one before it, and because a tag says where
//! the next one is. Then the end of the damaged commit is searched: in disk version 2.1, all
//! commits that others can follow end with a forward CRC and a CRC, and so the bytes of the second
//! tag can be recognised. From there, tags can be read backwards.

use super::super::num::{saturate, widen};
use super::super::{Tag, crc, read_u32_be, read_u32_le, tag};
use super::{Changed, Commit, Dissection, Placed, Reader};

/// How many bytes of data the tag of a forward CRC has.
const FORWARD_SIZE: u16 = 8;
/// The bit of a CRC tag that says which valid bit the next tag has.
const PHASE: u32 = 1 << 20;
/// How often the end of a damaged commit is searched in a block. In a hostile one, each time may take
/// as long as to read the block.
const TRIES: u32 = 64;

impl Reader<'_> {
    /// Read the next commit, which is damaged, and those behind it, up to the last valid one. Empty
    /// if no valid commit is found.
    pub(super) fn read_behind(mut self) -> Vec<Commit> {
        let mut commits = Vec::new();
        let mut tries = TRIES;
        loop {
            let before = self;
            let mut open = Vec::new();
            let read = self.read_commit(&mut open);
            if let Ok(commit) = &read
                && commit.is_valid()
            {
                commits.extend(read);
                continue;
            }
            let tags = read.as_ref().map_or(&open, |commit| &commit.tags);
            let skipped = before.skip(tags, &mut tries);
            // Tags can look right even if one has changed: if the CRC proves that, or if no valid
            // commit follows them.
            let is_known = skipped.as_ref().is_some_and(|(commit, _)| commit.changed.is_some());
            let is_followed = self.is_before_valid_commit();
            match (read, skipped) {
                (Ok(commit), skipped)
                    if commit.ends_well() && !is_known && (is_followed || skipped.is_none()) =>
                {
                    commits.push(commit);
                }
                (_, Some((damaged, next))) => {
                    commits.push(damaged);
                    self = next;
                }
                _ => break,
            }
        }
        while commits.pop_if(|last| !last.is_valid()).is_some() {}
        commits
    }

    /// Find the end of the next commit, one of whose tags has changed. `forward` are its tags as
    /// they can be read from its start; some or all of them may be wrong. Returns the commit, and
    /// the place behind it, where a valid commit is. `tries` is how many ends may still be tried.
    ///
    /// A device that does not erase has older logs behind the present one. So this is `None` unless
    /// the commit certainly belongs to this log.
    fn skip(self, forward: &[Placed], tries: &mut u32) -> Option<(Commit, Self)> {
        let mut from = self.off.saturating_add(4).saturating_add(FORWARD_SIZE.into());
        let end = loop {
            *tries = tries.checked_sub(1)?;
            let Some(found) = self.next_end(from) else {
                break self.end_before_last()?;
            };
            // the size in a CRC tag that has changed may be wrong
            let mut ends = self.end_before(found).into_iter().chain([found]);
            match ends.find(|end| self.is_followed(*end)) {
                Some(end) => break end,
                None => from = found.off.saturating_add(1),
            }
        };
        let commit = self.between(forward, end)?;
        let belongs_here = !commit.is_valid() && (self.is_later || commit.changed.is_some());
        let next = Self::after(self.bytes, &commit)?;
        belongs_here.then_some((commit, next))
    }

    /// Whether a valid commit is behind the one that ends with this CRC tag. A change of its phase
    /// makes no difference.
    fn is_followed(self, end: Placed) -> bool {
        [end.tag, Tag(end.tag.0 ^ PHASE)].into_iter().any(|tag| {
            let commit = Commit::of(self.start, vec![Placed { tag, ..end }], self.bytes);
            let next = commit.and_then(|commit| Self::after(self.bytes, &commit));
            next.is_some_and(Self::is_before_valid_commit)
        })
    }

    /// Whether the next commit is valid.
    fn is_before_valid_commit(mut self) -> bool {
        self.read_commit(&mut Vec::new()).is_ok_and(|commit| commit.is_valid())
    }

    /// The first CRC tag, at or after offset `from`, behind a tag of a forward CRC.
    fn next_end(self, from: u32) -> Option<Placed> {
        let before = Tag::new(tag::FCRC, tag::ID_NONE, FORWARD_SIZE);
        for off in from.. {
            let word = read_u32_be(self.bytes, widen(off))?;
            let end = Placed { off, tag: Tag(word ^ before.0) };
            if end.is_end() && self.has_forward_crc(end) {
                return Some(end);
            }
        }
        None
    }

    /// The CRC tag before the last commit of a full block. That last commit has no forward CRC, but it
    /// ends with the block, and only erased bytes follow its CRC. `None` if it may be older: to look for
    /// it in every block would take long.
    fn end_before_last(self) -> Option<Placed> {
        if !self.is_later {
            return None;
        }
        let size = saturate(self.bytes.len());
        let written = self.bytes.iter().rposition(|&byte| byte != 0xff)?;
        // the last bytes of the CRC may read 0xFF, too
        let crc_at = saturate(written).checked_sub(3)?..=saturate(written);
        let tags = crc_at.flat_map(|at| {
            let len = u16::try_from(size.saturating_sub(at)).unwrap_or(u16::MAX);
            let tag = Tag::new(tag::CCRC, tag::ID_NONE, len);
            [tag, Tag(tag.0 ^ PHASE)].map(|tag| Some(Placed { off: at.checked_sub(4)?, tag }))
        });
        let ends = tags.flatten().filter(|end| end.is_end() && end.range().is_some());
        let is_last = |end: &Placed| end.range().is_some_and(|range| range.end == size);
        let mut before = ends.filter(is_last).filter_map(|end| self.end_before(end));
        before.find(|end| self.is_followed(*end))
    }

    /// Whether what is before and behind a possible CRC tag fits a forward CRC.
    fn has_forward_crc(self, end: Placed) -> bool {
        let data_at = end.off.saturating_sub(FORWARD_SIZE.into());
        let size = read_u32_le(self.bytes, widen(data_at)).unwrap_or_default();
        let reach = end.range().and_then(|range| range.end.checked_add(size));
        size > 0 && reach.is_some_and(|reach| widen(reach) <= self.bytes.len())
    }

    /// The CRC tag before the commit that ends with `end`, if that one is valid and there is room
    /// for another commit before it: then the CRC tag of that other commit has changed, and was
    /// not found.
    fn end_before(self, end: Placed) -> Option<Placed> {
        let crc_at = end.off.checked_add(4)?;
        let mut sum = read_u32_le(self.bytes, widen(crc_at))?;
        let covered = self.bytes.get(..widen(crc_at))?;
        // where the CRC begins with its seed, a commit begins
        let start = (self.off.saturating_add(4)..crc_at).rev().find(|&at| {
            let byte = covered.get(widen(at)).copied().unwrap_or_default();
            sum = crc::before_zeros(sum, 1) ^ u32::from(byte);
            sum == crc::SEED
        })?;
        let first = self.backwards(start, end).pop()?;
        let word = read_u32_be(self.bytes, widen(first.off))?;
        // this value is the CRC tag before the commit, with the valid bit that the next tag needs
        let tag = Tag((word ^ first.tag.0) & 0x7fff_ffff);
        let before = Placed { off: start.checked_sub(4)?.checked_sub(tag.size())?, tag };
        (first.off == start && before.off >= self.off && before.is_end()).then_some(before)
    }

    /// The tags before `end` and not before offset `from`, read backwards, with `end` as the first
    /// one. This stops where something cannot be a tag.
    fn backwards(self, from: u32, end: Placed) -> Vec<Placed> {
        let mut tags = vec![end];
        let mut next = end;
        let before = |next: Placed| {
            let tag = Tag(read_u32_be(self.bytes, widen(next.off))? ^ next.tag.0);
            let off = next.off.checked_sub(4)?.checked_sub(tag.size())?;
            let is_tag = off >= from && tag.is_valid() && !tag.is_ccrc();
            is_tag.then_some(Placed { off, tag })
        };
        while let Some(placed) = before(next).filter(|_| next.off > from) {
            tags.push(placed);
            next = placed;
        }
        tags
    }

    /// The damaged commit that ends with `end`. If only one tag has changed, its tags are as they
    /// were written. Otherwise they are those of `forward`, and may be wrong.
    fn between(self, forward: &[Placed], end: Placed) -> Option<Commit> {
        let known: Vec<Placed> =
            forward.iter().copied().take_while(|placed| placed.off < end.off).collect();
        let mut commit = Commit::of(self.start, vec![end], self.bytes)?;
        // what undoes the difference of the two CRCs, if it is a change of the bytes before `at`
        let mut error = commit.stored ^ commit.computed;
        let mut at = end.off.checked_add(4)?;
        let mut behind: Vec<Placed> = Vec::new();
        for placed in self.backwards(self.off, end) {
            behind.push(placed);
            error = crc::before_zeros(error, widen(at.saturating_sub(placed.off)));
            at = placed.off;
            let word = read_u32_be(self.bytes, widen(at))? ^ error.swap_bytes();
            let before = known.partition_point(|before| before.off < at);
            let ptag = match before.checked_sub(1).and_then(|last| known.get(last)) {
                Some(last) if last.range().is_some_and(|range| range.end == at) => last.tag.0,
                None if at == self.off => self.ptag,
                _ => continue,
            };
            let was = Placed { off: at, tag: Tag(word ^ ptag) };
            // a CRC tag may have been found with the wrong phase
            let is_it =
                was == placed || at == end.off && was.is_end() && was.range() == end.range();
            if is_it {
                let behind = std::iter::once(was).chain(behind.iter().rev().skip(1).copied());
                let tags = known.iter().take(before).copied().chain(behind).collect();
                commit = Commit::of(self.start, tags, self.bytes)?;
                commit.changed = Some(Changed { off: at, word: word.to_be_bytes() });
                return Some(commit);
            }
        }
        commit.tags.splice(..0, known);
        Some(commit)
    }
}

impl Placed {
    /// Whether this is a CRC tag as drivers write it.
    fn is_end(self) -> bool {
        let tag = self.tag;
        tag.is_valid()
            && tag.is_ccrc()
            && tag.id() == tag::ID_NONE
            && tag.chunk() <= 1
            && tag.size() >= 4
    }
}

impl Commit {
    /// Whether its CRC tag is one that a driver writes. If a tag of the commit has changed, this
    /// shows it in most cases, because each tag is XORed with the one before it.
    fn ends_well(&self) -> bool {
        self.tags.last().is_some_and(|end| end.is_end())
    }

    /// Make the CRC of the commit match: undo the change of its tag, or replace the CRC. Returns
    /// whether its content can be wrong now. `None` if its tags are not known.
    fn mend(&self, bytes: &mut [u8]) -> Option<bool> {
        let crc_at = self.tags.last()?.range()?.start;
        let (at, word) = match self.changed {
            Some(Changed { off, word }) => (off, word),
            None => (crc_at, self.computed.to_le_bytes()),
        };
        // without gaps
        let mut places = self.tags.iter().map_while(|placed| Some((placed.off, placed.range()?)));
        let mut next = self.start.max(4);
        if !places.all(|(off, range)| std::mem::replace(&mut next, range.end) == off) {
            return None;
        }
        // if tags before the CRC tag were read wrong, it does not follow from them
        if let ([.., before, end], None) = (&self.tags[..], self.changed)
            && read_u32_be(bytes, widen(end.off))? ^ before.tag.0 != end.tag.0
        {
            return None;
        }
        *bytes.get_mut(widen(at)..)?.first_chunk_mut()? = word;
        Some(self.changed.is_none())
    }
}

/// Make the hidden commits of the metadata block `bytes` readable: mend each damaged commit before
/// them, or give it the CRC that its bytes have. Returns the numbers, from 0 on, of the commits whose
/// content may be wrong. `None` if no commit is hidden, or if the tags of the first damaged commit
/// are not known; then nothing is changed.
pub fn reveal(bytes: &mut [u8]) -> Option<Vec<usize>> {
    let taken = Dissection::of(bytes)?;
    let first = taken.damaged(bytes)?;
    let mut doubtful = Vec::new();
    for (number, commit) in
        (taken.commits.len()..).zip(std::iter::once(&first).chain(&taken.behind))
    {
        if commit.is_valid() {
            continue;
        }
        match commit.mend(bytes) {
            Some(true) => doubtful.push(number),
            Some(false) => {}
            None if number == taken.commits.len() => return None,
            // what is before this one can be read
            None => break,
        }
    }
    Some(doubtful)
}

#[cfg(test)]
mod tests {
    use super::super::super::GState;
    use super::super::super::commit::{Layout, Writer};
    use super::super::tests::LAYOUT;
    use super::*;

    /// A block with four commits: a file, and three versions of its content.
    fn block(layout: Layout) -> Vec<u8> {
        let mut writer = Writer::compact(layout, 5);
        writer.tag(tag::REG, 0, b"name");
        writer.tag(tag::INLINESTRUCT, 0, b"0");
        let mut commit = writer.finish().expect("fits");
        let mut block = commit.bytes.clone();
        for text in [&b"first"[..], b"the second", b"third"] {
            let mut writer = Writer::append(layout, commit.end(), commit.etag);
            writer.tag(tag::INLINESTRUCT, 0, text);
            writer.gdelta(GState::default().with_sync(true));
            commit = writer.finish().expect("fits");
            block.extend_from_slice(&commit.bytes);
        }
        block.resize(512, 0xff);
        block
    }

    #[test]
    fn a_changed_tag_is_found_and_mended() {
        let block = block(LAYOUT);
        let whole = Dissection::of(&block).expect("a revision");
        assert_eq!(whole.commits.len(), 4);
        for (number, commit) in whole.commits.iter().take(3).enumerate() {
            for (placed, bit) in
                commit.tags.iter().flat_map(|tag| (0..32).map(move |bit| (tag, bit)))
            {
                let mut block_now = block.clone();
                let off = placed.off as usize;
                block_now[off + bit / 8] ^= 1 << (bit % 8);
                let at = format!("commit {number}, tag at {off}, bit {bit}");
                let damaged = Dissection::of(&block_now).expect("a revision");
                assert_eq!((damaged.commits.len(), damaged.end), (number, commit.start), "{at}");
                assert_eq!(damaged.open, commit.tags, "{at}");
                assert_eq!(damaged.behind, whole.commits[number + 1..], "{at}");
                assert_eq!(reveal(&mut block_now), Some(Vec::new()), "{at}");
                assert_eq!(block_now, block, "{at}");
            }
        }
    }

    /// Two changes in a commit: nothing shows what was written, but what is behind it is found if the
    /// commit before it shows that the block was erased.
    #[test]
    fn behind_a_destroyed_commit_the_log_goes_on() {
        let block = block(LAYOUT);
        let whole = Dissection::of(&block).expect("a revision");
        for (number, commit) in whole.commits.iter().take(3).enumerate() {
            let mut block_now = block.clone();
            let tags = &commit.tags;
            let (first, second) = (tags[0].off as usize, tags[1].off as usize);
            block_now[first..second + 4].fill(0);
            let damaged = Dissection::of(&block_now).expect("a revision");
            assert_eq!(damaged.is_later(), number > 0);
            if number > 0 {
                assert_eq!(damaged.behind, whole.commits[number + 1..]);
            } else {
                assert!(damaged.behind.is_empty());
            }
            assert_eq!(reveal(&mut block_now.clone()), None);
        }
    }

    /// The last commit of a full block has no forward CRC.
    #[test]
    fn the_last_commit_of_a_full_block_is_found() {
        let mut block = block(LAYOUT);
        let whole = Dissection::of(&block).expect("a revision");
        let last = whole.commits.last().expect("commits");
        let etag = last.tags.last().expect("tags").tag.0;
        let text = [b'x'; 512];
        let full = (0..text.len()).rev().find_map(|len| {
            let mut writer = Writer::append(LAYOUT, last.end, etag);
            writer.tag(tag::INLINESTRUCT, 0, &text[..len]);
            writer.finish().ok()
        });
        let full = full.expect("fits");
        assert_eq!(full.end(), 512);
        block[last.end as usize..].copy_from_slice(&full.bytes);
        let whole = Dissection::of(&block).expect("a revision");
        let [.., before, last] = &whole.commits[..] else { panic!("commits") };
        assert!(last.forward.is_none());
        for bit in 0..32 {
            let mut block_now = block.clone();
            block_now[before.tags[1].off as usize + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(reveal(&mut block_now), Some(Vec::new()), "bit {bit}");
            assert_eq!(block_now, block, "bit {bit}");
        }
        block[before.start as usize..before.end as usize].fill(0x5a);
        let damaged = Dissection::of(&block).expect("a revision");
        assert_eq!(damaged.behind, std::slice::from_ref(last));
        assert!(damaged.is_later());
    }

    /// A device that does not erase leaves the older log behind the present one.
    #[test]
    fn an_older_log_is_not_taken_for_hidden_commits() {
        let old = block(LAYOUT);
        let whole = Dissection::of(&old).expect("a revision");
        let mut writer = Writer::compact(LAYOUT, 6);
        writer.tag(tag::REG, 0, b"other");
        writer.tag(tag::INLINESTRUCT, 0, b"1");
        let new = writer.finish().expect("fits").bytes;
        assert!(whole.commits.iter().any(|commit| commit.start as usize == new.len()));
        let block = [&new[..], &old[new.len()..]].concat();
        let taken = Dissection::of(&block).expect("a revision");
        assert_eq!((taken.commits.len(), taken.hidden_count()), (1, 0), "{taken:#?}");
    }
}
