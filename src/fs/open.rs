//! Opening an image. One walk along the thread reads every metadata pair. Then one walk over the
//! tree, from the root down, gives each directory its id.
//!
//! After a crash, the thread and the tree may disagree (SPEC: `0x7ff` MOVESTATE, the sync bit).
//! Opening repairs only the state in memory: for a relocated pair, it uses the blocks that the tree
//! names, it marks orphans for removal, and it hides the source of a pending move. Before the first
//! change, all this is written to disk (`Fs::recover`). So a read-only mount shows the same tree
//! and writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::activity::Tally;
use super::budget::Budget;
use super::dirs::{Dir, Directories};
use super::durable::Durable;
use super::firsts::First;
use super::leaving::Leaving;
use super::moves::{Move, Moves};
use super::open_files::OpenFiles;
use super::pairs::{Fate, PairInfo, PairIx, View};
use super::relocate::Relocating;
use super::running::Panicked;
use super::space::Space;
use super::stray::blocks_behind;
use super::thread::Thread;
use super::{DirId, Durability, Fs, Hold, ROOT};
use crate::bd::{BlockDevice, Geometry};
use crate::convention::AttrUsage;
use crate::disk::commit::Layout;
use crate::disk::entry::Content;
use crate::disk::log::{Log, Packed, PackedEntry};
use crate::disk::{GState, List, Pair, Superblock, Tail, name, tag};
use crate::error::{Corrupt, Error, Result, SuperblockFault, Unsupported};
use crate::mdir::store::{self, Fetched};
use crate::mdir::{LogEnd, Mdir, MoveId, Role};
use crate::show::Show;

/// The program size in bytes, if nothing in the image shows the program size of its writer.
const PROG_SIZE_DEFAULT: u32 = 16;
/// The limit for inline files in bytes, if no inline file in the image is larger: the cache size of
/// Zephyr.
const INLINE_MAX_DEFAULT: u32 = 64;
/// Logs of up to this many bytes stay in memory as they are until their entries are needed.
const PACKED_MAX: u32 = 4096;

/// How to open an image.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Refuse changes, and never write.
    pub read_only: bool,
    /// The program size of the device in bytes. `None` infers it from the image.
    pub prog_size: Option<u32>,
    /// The largest inline file in bytes. `None` infers it from the image. If it is more than the
    /// filesystem allows, the limit of the filesystem is used, and [`Fs::warnings`] says so.
    pub inline_max: Option<u32>,
    /// The number of erases after which a metadata pair moves to other blocks. With `None`, no pair
    /// moves.
    pub block_cycles: Option<u32>,
    /// What a flush waits for.
    pub durability: Durability,
    /// Limits the memory for cached and unwritten data, in bytes. The default is 40 MiB, and less
    /// than 256 KiB counts as 256 KiB.
    pub cache: Option<u64>,
    /// Do not log the warnings from opening. The caller reads [`Fs::warnings`] instead.
    pub quiet: bool,
}

/// Read the superblock of the root. The chain that starts at blocks 0 and 1 may hold several
/// superblocks (SPEC: `0x0ff` SUPERBLOCK). Only the last one, which is the root's, is kept up to
/// date.
///
/// # Errors
/// If no pair of the chain holds a superblock, or blocks 0 and 1 cannot be read.
pub fn root_superblock(dev: &dyn BlockDevice) -> Result<Superblock> {
    let (mut found, mut fault) = (None, None);
    let mut next = Pair::SUPERBLOCK;
    let mut seen = BTreeSet::new();
    // a damaged chain may come back to one of its blocks
    while seen.insert(next.0[0]) && seen.insert(next.0[1]) {
        let log = match store::fetch(dev, next) {
            Ok(f) => f.log,
            Err(e) if found.is_none() => return Err(e),
            Err(_) => break,
        };
        match Superblock::decode(&log) {
            Ok(sb) => found = Some(sb),
            // this is one of the other pairs of the root directory
            Err(SuperblockFault::NoEntry) if found.is_some() => break,
            // this one is damaged, but a later one may be sound
            Err(why) => _ = fault.get_or_insert(why),
        }
        match log.tail {
            Some(t) if t.hard => next = t.pair,
            _ => break,
        }
    }
    let why = fault.unwrap_or(SuperblockFault::NoEntry);
    found.ok_or(Error::Corrupt(Corrupt::BadSuperblock { pair: Pair::SUPERBLOCK, why }))
}

/// A directory entry that the walk has met.
struct Child {
    id: u16,
    pair: Pair,
    name: Box<[u8]>,
}

/// What must be known about the names in a pair to tell whether its directory is sorted.
struct Names {
    last: Option<Box<[u8]>>,
    in_order: bool,
}

impl Names {
    /// The first name among the entries of a pair, and the facts about all of them.
    fn of(entries: &Packed) -> (Option<&[u8]>, Self) {
        let has_name =
            |e: &PackedEntry<'_>| !e.is_empty() && e.name_type() != Some(tag::SUPERBLOCK);
        let mut names = entries.iter().filter(has_name).map(PackedEntry::name);
        let first = names.next();
        let (mut last, mut in_order) = (first, true);
        for name in names {
            in_order &= last.is_none_or(|before| name::cmp(before, name).is_lt());
            last = Some(name);
        }
        (first, Self { last: last.map(Into::into), in_order })
    }
}

/// What the walk gathers in addition to the table of pairs.
#[derive(Default)]
struct Walk {
    by_block: HashMap<u32, PairIx>,
    children: HashMap<PairIx, Vec<Child>>,
    names: HashMap<PairIx, Names>,
    /// The CTZ lists of the files in each pair.
    lists: HashMap<PairIx, Vec<List>>,
    superblocks: BTreeSet<PairIx>,
    /// What is wrong with superblock entries that are not valid superblocks.
    superblock_faults: BTreeMap<PairIx, SuperblockFault>,
    /// Pairs that have entries.
    filled: BTreeSet<PairIx>,
    /// Pairs with a damaged entry that may once have named a directory.
    doubtful: BTreeSet<PairIx>,
    /// Whether the sync bit was set in the global state after the whole thread had been read. It is
    /// kept here, because later the sum of the deltas can be wrong for a while: a newer copy of a
    /// pair may have taken over the delta of a pair that is still in the thread. That delta counts
    /// twice until `forget_passed` has taken the old pair out.
    needs_sync: bool,
    /// Pairs whose content is newer than the content in the blocks that the thread names. Their
    /// tails may lead elsewhere.
    renewed: BTreeSet<PairIx>,
    /// Pairs that are named by entries which are not directories.
    strays: Vec<Pair>,
    /// Why the thread ends before a null tail, if it does.
    thread_end: Option<Error>,
    /// Whether a pair shows an older state, because one of its commits is damaged.
    hides_commits: bool,
    root: Option<(PairIx, Superblock)>,
    ends: u32,
    commits: u32,
    prog_hint: u32,
    inline_seen: u32,
    seed: u32,
}

impl Walk {
    /// Note the directories and lists that the entries of a pair name.
    fn take_entries(&mut self, ix: PairIx, entries: &Packed) {
        let (mut children, mut lists) = (Vec::new(), Vec::new());
        let mut is_doubtful = false;
        for (id, e) in (0..).zip(entries.iter()) {
            let ty = e.name_type();
            // an entry whose name and struct do not agree may once have named a directory
            is_doubtful |= ty.is_none();
            match e.content() {
                Content::Dir(pair) if ty == Some(tag::DIR) => {
                    children.push(Child { id, pair, name: e.name().into() });
                    continue;
                }
                Content::Dir(pair) => {
                    self.strays.push(pair);
                    is_doubtful = true;
                }
                Content::List(list) => lists.push(list),
                Content::Inline(d) if ty == Some(tag::REG) => {
                    self.inline_seen = self.inline_seen.max(d.len() as u32);
                }
                _ => {}
            }
            is_doubtful |= ty == Some(tag::DIR);
        }
        if !children.is_empty() {
            self.children.insert(ix, children);
        }
        if !lists.is_empty() {
            self.lists.insert(ix, lists);
        }
        if !entries.is_empty() {
            self.filled.insert(ix);
        }
        if is_doubtful {
            self.doubtful.insert(ix);
        }
    }

    /// Why a pair does not hold a superblock.
    fn superblock_fault(&self, ix: PairIx) -> SuperblockFault {
        self.superblock_faults.get(&ix).copied().unwrap_or(SuperblockFault::NoEntry)
    }
}

impl Fs {
    /// Open the littlefs on `dev`. Every metadata pair is read once.
    ///
    /// # Errors
    /// If the superblock cannot be read, or if its version, its geometry or an option is not
    /// supported. Other damage is not an error: the rest is served read-only, and [`Fs::warnings`]
    /// says what is wrong.
    pub fn open(dev: Arc<dyn BlockDevice>, options: &OpenOptions) -> Result<Self> {
        let mut fs = Self::unread(dev, options);
        let mut walk = Walk::default();
        fs.walk_thread(&mut walk)?;
        let Some((root, superblock)) = walk.root else {
            let why = walk.superblock_fault(PairIx(0));
            return Err(Corrupt::BadSuperblock { pair: Pair::SUPERBLOCK, why }.into());
        };
        fs.adopt(superblock, &walk, options)?;
        fs.check_chain(root, &walk);
        // The order of these steps matters. The global state is known only after the whole thread
        // has been read. If it names a pending move, a crash came between the two commits of the
        // move, and two entries may name the same directory. So the source of the move is hidden
        // before the tree is walked. Orphans are the pairs that the walk over the tree has not
        // reached, so they come last.
        fs.find_move(&mut walk);
        fs.walk_tree(root, &mut walk);
        fs.doubt_global_state(&walk);
        fs.find_orphans(&mut walk);
        fs.check_hidden();
        fs.find_doubles();
        fs.begin_map(walk);
        fs.quiet = false;
        Ok(fs)
    }

    /// A filesystem about which nothing is known yet except its device.
    fn unread(dev: Arc<dyn BlockDevice>, options: &OpenOptions) -> Self {
        let g = dev.geometry();
        Self {
            durable: Durable::new(dev, options.durability),
            layout: Layout { block_size: g.block_size, prog_size: PROG_SIZE_DEFAULT, fcrc: true },
            superblock: Superblock {
                version: 0,
                block_size: g.block_size,
                block_count: g.block_count,
                name_max: 0,
                file_max: 0,
                attr_max: 0,
            },
            attr_usage: AttrUsage::new(),
            inline_max: 0,
            block_cycles: options.block_cycles,
            read_only: options.read_only,
            turned_read_only: None,
            suspect: None,
            panicked: Panicked::default(),
            quiet: options.quiet,
            warnings: Vec::new(),
            budget: Budget::new(options.cache),
            thread: Thread::new(Budget::new(options.cache)),
            dirs: Directories::new(),
            files: OpenFiles::new(),
            space: Space::new(g, 0, Vec::new()),
            flushing: false,
            held: Hold::Nothing,
            moves: Moves::new(),
            unfinished: false,
            nameless: Vec::new(),
            leaving: Leaving::default(),
            stubs: BTreeSet::new(),
            relocating: Relocating::default(),
            tally: Tally::default(),
        }
    }

    /// Begin the map of free blocks, once everything in the image has been met. The blocks of pairs
    /// are marked now, and the blocks of lists later.
    fn begin_map(&mut self, walk: Walk) {
        let g = self.geometry();
        self.space = Space::new(g, walk.seed, walk.lists.into_values().flatten().collect());
        // these blocks are always in use, because nobody can find the filesystem without them
        Pair::SUPERBLOCK.0.into_iter().for_each(|b| self.space.pin(b));
        let pairs = || self.thread.iter().flat_map(|(_, p)| p.blocks.0);
        pairs().for_each(|b| self.space.mark(b));
        if self.unfinished {
            // after a crash between the two commits of a move, both entries name the same list
            self.space.expect_shared_lists(pairs().collect());
        }
        // a repair may give these entries their names back, so their blocks must stay
        match blocks_behind(self.durable.dev(), walk.strays) {
            Ok(blocks) => blocks.into_iter().for_each(|b| self.space.pin(b)),
            Err(e) => self.damage(&e),
        }
    }

    pub(super) fn warn(&mut self, text: String) {
        if !self.quiet {
            ::log::warn!("{text}");
        }
        self.warnings.push(text);
    }

    /// Note damage and turn read-only. The rest of the image is still served.
    pub(super) fn damage(&mut self, what: &dyn std::fmt::Display) {
        self.warn(format!("{what}; the rest can only be read"));
        self.read_only = true;
        self.turned_read_only.get_or_insert_with(|| what.to_string());
    }

    /// If the thread ends too early, the global state is unknown. Unless the damage is in a
    /// directory whose readers get an error, nothing else would show that.
    fn doubt_global_state(&mut self, walk: &Walk) {
        let Some(why) = walk.thread_end.as_ref().filter(|_| self.dirs.are_whole()) else { return };
        self.suspect.get_or_insert_with(|| {
            format!(
                "{why}, so the thread of metadata pairs ends too early; if a rename was \
                 interrupted, the entry may be shown under both names"
            )
        });
    }

    /// Read the pairs along the thread, from blocks 0 and 1 to the null tail. The sum of their
    /// deltas is the global state (SPEC: `0x7ff` MOVESTATE).
    ///
    /// # Errors
    /// If the first pair cannot be read. Damage further on ends the walk and makes the filesystem
    /// read-only.
    fn walk_thread(&mut self, walk: &mut Walk) -> Result<()> {
        let mut tail = Tail { pair: Pair::SUPERBLOCK, hard: false };
        let mut prev: Option<PairIx> = None;
        let mut chain = true;
        let mut buffer = Vec::new();
        while !tail.pair.is_null() {
            if tail.pair.0.iter().any(|b| walk.by_block.contains_key(b)) {
                walk.thread_end = Some(Corrupt::PairReachedTwice(tail.pair).into());
                break;
            }
            let dev = self.durable.dev();
            let fetched = match store::fetch_packed(dev, tail.pair, &mut buffer) {
                Ok(f) => f,
                Err(e) if prev.is_none() => return Err(e),
                Err(e) => {
                    walk.thread_end = Some(e);
                    break;
                }
            };
            let hard = tail.hard;
            tail = fetched.log.tail.unwrap_or(Tail::END);
            let ix = self.take_pair(fetched, walk);
            // the superblock chain ends at the first soft tail
            chain &= hard || prev.is_none();
            let p = self.pair_mut(ix);
            (p.threaded, p.continues, p.chain) = (true, hard, chain);
            if let Some(prev) = prev {
                self.thread.link_after(prev, ix);
            }
            self.durable.set_gstate(self.durable.gstate().xor(self.pair(ix).gdelta));
            prev = Some(ix);
        }
        if let Some(e) = &walk.thread_end {
            self.damage(e);
        }
        if walk.thread_end.is_some() || walk.hides_commits {
            // The sum of only some of the deltas, or of outdated ones, is meaningless. It could name
            // an entry that was never moved.
            self.durable.set_gstate(GState::default());
        }
        Ok(())
    }

    /// Add a pair that was read to the table of pairs.
    fn take_pair(&mut self, fetched: Fetched<Log<Packed>>, walk: &mut Walk) -> PairIx {
        let Fetched { pair, log, unreadable, .. } = fetched;
        if let Some(e) = unreadable {
            // The block that cannot be read may hold newer commits. Anything that is written to
            // this pair now would have a higher revision, and these commits would be lost.
            let remedy = match e.present() {
                Some(_) => "read the image from the device again",
                None => "copy the image to a device that works, and check the copy",
            };
            let what = format!(
                "metadata pair {pair} may be newer than shown, because a block cannot be read: {}; \
                 {remedy}",
                Error::from(e)
            );
            self.damage(&what);
            self.suspect.get_or_insert(what);
        }
        if let Some(e) = store::hidden_commits(self.durable.dev(), pair, &log) {
            // The next write would compact the older state. Until then, the commits can be
            // recovered.
            self.damage(&e);
            self.suspect.get_or_insert_with(|| e.to_string());
            walk.hides_commits = true;
        }
        let mut p = PairInfo::new(pair, None, false);
        p.on_disk = true;
        p.end = LogEnd::of(&log);
        p.disk_tail = log.tail.unwrap_or(Tail::END);
        p.gdelta = log.gdelta;
        let superblock = Superblock::decode_packed(&log);
        walk.ends |= log.ends;
        walk.commits += log.commits;
        // the search for free blocks starts at a place that depends on the content
        walk.seed ^= log.seed;
        if let Some((size, _)) = log.fcrc {
            walk.prog_hint = walk.prog_hint.max(size);
        }
        let (first, names) = Names::of(&log.entries);
        for attr in log.entries.attrs() {
            *self.attr_usage.entry(attr).or_insert(0) += 1;
        }
        let ix = self.thread.add(p);
        self.thread.set_first(ix, first);
        walk.take_entries(ix, &log.entries);
        self.keep(ix, log);
        for b in pair.0 {
            walk.by_block.insert(b, ix);
        }
        walk.names.insert(ix, names);
        match superblock {
            Ok(sb) => {
                walk.superblocks.insert(ix);
                // the last superblock in the thread is the root's
                walk.root = Some((ix, sb));
            }
            Err(SuperblockFault::NoEntry) => {}
            Err(why) => _ = walk.superblock_faults.insert(ix, why),
        }
        ix
    }

    /// Keep the content of a pair that was read, if there is room. Otherwise it is read again when
    /// it is needed.
    fn keep(&mut self, ix: PairIx, log: Log<Packed>) {
        // most of a long log is old content, which need not stay in memory
        let is_long = log.off > PACKED_MAX;
        let mdir = is_long.then(|| Box::new(Mdir::from_log(&log)));
        let room = (self.thread.cache_max() / 3).saturating_sub(self.thread.cached_bytes());
        let p = self.pair_mut(ix);
        (p.mdir, p.packed) = (mdir, (!is_long).then(|| Box::new(log)));
        if p.footprint() > room {
            (p.mdir, p.packed) = (None, None);
        }
        self.thread.count(ix);
    }

    /// Take the limits and the layout from the superblock, the commits and the options.
    fn adopt(&mut self, sb: Superblock, walk: &Walk, options: &OpenOptions) -> Result<()> {
        if !sb.is_supported() {
            return Err(Unsupported::Version(sb.version).into());
        }
        let g = self.durable.dev().geometry();
        if sb.block_size != g.block_size {
            return Err(Unsupported::Geometry(format!(
                "the superblock says blocks of {} bytes, not {}",
                sb.block_size, g.block_size
            ))
            .into());
        }
        if sb.block_count != g.block_count {
            return Err(Unsupported::Geometry(format!(
                "the superblock says {} blocks, not {}",
                sb.block_count, g.block_count
            ))
            .into());
        }
        Geometry::new(sb.block_size, sb.block_count)?;
        self.superblock = sb;
        let prog_size = match options.prog_size {
            Some(n) if n == 0 || n > g.block_size || !g.block_size.is_multiple_of(n) => {
                return Err(Error::Invalid("prog_size must divide the block size"));
            }
            Some(n) => n,
            None => infer_prog_size(g.block_size, walk),
        };
        self.layout = Layout { block_size: g.block_size, prog_size, fcrc: sb.has_fcrc() };
        let cap = (g.block_size / 8).min(sb.attr_max).min(tag::LEN_MAX);
        let wanted = options.inline_max.unwrap_or(walk.inline_seen.max(INLINE_MAX_DEFAULT));
        self.inline_max = wanted.min(cap);
        if options.inline_max.is_some_and(|n| n > cap) {
            self.warn(format!(
                "inline_max={wanted} is more than the filesystem allows: files of up to {cap} \
                 bytes are stored inline (the limit is the smallest of an eighth of the block \
                 size, attr_max and {})",
                tag::LEN_MAX
            ));
        }
        Ok(())
    }

    /// Every pair of the superblock chain before the root must hold a superblock. If one does not,
    /// a write could destroy the last copy by which the filesystem can be found.
    fn check_chain(&mut self, root: PairIx, walk: &Walk) {
        let mut at = Some(PairIx(0));
        while let Some(ix) = at.filter(|&ix| ix != root && self.pair(ix).chain) {
            if !walk.superblocks.contains(&ix) {
                let (pair, why) = (self.pair(ix).blocks, walk.superblock_fault(ix));
                self.damage(&Corrupt::BadSuperblock { pair, why });
            }
            at = self.pair(ix).next;
        }
    }

    /// Hide the source of an interrupted move. It is deleted on disk before anything else is
    /// written: another commit to its pair could change the id by which the global state names it.
    fn find_move(&mut self, walk: &mut Walk) {
        walk.needs_sync = self.durable.gstate().needs_sync();
        self.unfinished = walk.needs_sync;
        let Some((pair, id)) = self.durable.gstate().pending_move() else { return };
        self.unfinished = true;
        self.warn(format!("a move was interrupted: its source, entry {id} of {pair}, is hidden"));
        let Some(&source) = pair.0.iter().find_map(|b| walk.by_block.get(b)) else { return };
        // finishing such a move would delete the superblock
        if id == 0 && walk.superblocks.contains(&source) {
            self.damage(&Corrupt::MoveOfSuperblock(pair));
            return;
        }
        let m = self.moves.new_id();
        if self.hide_moved(source, id, m, walk) {
            self.moves.insert(m, Move { source, target: None });
        }
    }

    /// Hide entry `id` of `source`, which is the source of move `m`. Returns false if the pair
    /// cannot be read.
    fn hide_moved(&mut self, source: PairIx, id: u16, m: MoveId, walk: &mut Walk) -> bool {
        if let Some(children) = walk.children.get_mut(&source) {
            // only the new entry of a moved directory names it
            children.retain(|c| c.id != id);
        }
        let Ok(mdir) = self.mdir(source) else { return false };
        if let Some(e) = mdir.entries.iter_mut().find(|e| e.did == Some(id)) {
            e.role = Role::Leaving(m);
        }
        true
    }

    /// Give an id to every directory that can be reached from the root.
    fn walk_tree(&mut self, root: PairIx, walk: &mut Walk) {
        let mut todo = VecDeque::from([self.add_dir(root, ROOT, Box::default(), walk)]);
        while let Some(parent) = todo.pop_front() {
            for ix in self.dirs[parent].pairs.clone() {
                for child in walk.children.remove(&ix).unwrap_or_default() {
                    match self.find_head(&child, walk) {
                        Ok(head) => todo.push_back(self.add_dir(head, parent, child.name, walk)),
                        Err(e) => self.add_broken(parent, child.name, e),
                    }
                }
            }
        }
        // some entries were read before the directories that they name had ids
        for ix in self.thread.ids() {
            self.resolve(ix);
        }
    }

    /// Note as damage that the directory `name` in `parent` cannot be used because of `why`.
    fn add_broken(&mut self, parent: DirId, name: Box<[u8]>, why: Error) {
        self.damage(&format_args!("{}{}: {why}", self.path_of(parent), name.show()));
        if let Error::Corrupt(why) = why {
            self.dirs.broken(parent, name, why);
        }
    }

    /// Find the first pair of the directory that `child` names.
    fn find_head(&mut self, child: &Child, walk: &mut Walk) -> Result<PairIx> {
        let known = child.pair.0.map(|b| walk.by_block.get(&b).copied());
        match known {
            // the usual case: the pair is in the thread
            [Some(a), Some(b)] if a == b => {
                let p = self.pair(a);
                let is_free = p.dir.is_none() && !p.continues && !p.chain;
                if is_free && !walk.superblocks.contains(&a) {
                    return Ok(a);
                }
                Err(Corrupt::PairReachedTwice(child.pair).into())
            }
            // the thread lacks this directory
            [None, None] => {
                let fetched = store::fetch_dir_packed(self.durable.dev(), child.pair)?;
                Ok(self.take_unthreaded(fetched, walk))
            }
            [Some(old), None] | [None, Some(old)]
                // Relocation replaces one of the two blocks of a pair. It first updates the entry
                // in the tree, then the tail in the thread, and a crash came between the two.
                if self.pair(old).dir.is_none()
                    && !self.pair(old).continues
                    && !self.pair(old).chain =>
            {
                let blocks = self.pair(old).blocks;
                let fetched = store::fetch_relocated(self.durable.dev(), child.pair, blocks)?;
                Ok(self.take_half_orphan(old, fetched, walk))
            }
            _ => Err(Corrupt::PairReachedTwice(child.pair).into()),
        }
    }

    /// Take in a directory that is not in the thread, with all its pairs.
    fn take_unthreaded(&mut self, first: Fetched<Log<Packed>>, walk: &mut Walk) -> PairIx {
        self.warn(format!(
            "directory pair {} is not in the thread; a device may reuse its blocks",
            first.pair
        ));
        let mut tail = first.log.tail.unwrap_or(Tail::END);
        let head = self.take_pair(first, walk);
        let mut prev = head;
        while tail.hard && !tail.pair.is_null() {
            if tail.pair.0.iter().any(|b| walk.by_block.contains_key(b)) {
                self.damage(&Corrupt::PairReachedTwice(tail.pair));
                break;
            }
            match store::fetch_dir_packed(self.durable.dev(), tail.pair) {
                Ok(f) => {
                    tail = f.log.tail.unwrap_or(Tail::END);
                    let ix = self.take_pair(f, walk);
                    self.pair_mut(ix).continues = true;
                    self.thread.link_after(prev, ix);
                    prev = ix;
                }
                Err(e) => {
                    self.damage(&e);
                    break;
                }
            }
        }
        head
    }

    /// Take in a pair that has been relocated: the tree names its new blocks, and the thread still
    /// names the old ones. The content of the new blocks is newer. It replaces the old content in
    /// the table and in the thread.
    fn take_half_orphan(
        &mut self,
        old: PairIx,
        fetched: Fetched<Log<Packed>>,
        walk: &mut Walk,
    ) -> PairIx {
        self.warn(format!("the thread names pair {} by its old blocks", fetched.pair));
        let delta = self.pair(old).gdelta;
        walk.renewed.insert(old);
        // Until the thread is mended, a block of the old content is in use there, but not here.
        self.unfinished = true;
        // directories and lists that only the old content named do not count any more
        walk.children.remove(&old);
        walk.lists.remove(&old);
        let new = self.take_pair(fetched, walk);
        let PairInfo { blocks, gdelta, .. } = *self.pair(new);
        self.thread.replace(old, new);
        for b in blocks.0 {
            walk.by_block.insert(b, old);
        }
        if let Some(l) = walk.lists.remove(&new) {
            walk.lists.insert(old, l);
        }
        if let Some(c) = walk.children.remove(&new) {
            walk.children.insert(old, c);
        }
        if let Some(l) = walk.names.remove(&new) {
            walk.names.insert(old, l);
        }
        // the old content does not count any more, and neither does its delta
        if !walk.hides_commits {
            self.durable.set_gstate(self.durable.gstate().xor(delta).xor(gdelta));
        }
        // The pair may have been relocated in the middle of a move out of it. So far, the source of
        // that move is hidden only in the old content.
        let out_of_here = self.moves.out_of(old);
        if let (Some(m), Some((_, id))) = (out_of_here, self.durable.gstate().pending_move()) {
            self.hide_moved(old, id, m, walk);
        }
        old
    }

    /// Add the directory whose first pair is `head`, with the pairs to which hardtails lead from
    /// there.
    fn add_dir(&mut self, head: PairIx, parent: DirId, name: Box<[u8]>, walk: &mut Walk) -> DirId {
        let id = self.dirs.insert(Dir::new(parent, name, Vec::new()));
        let mut pairs = vec![head];
        let mut sorted = true;
        let mut last: Option<Box<[u8]>> = None;
        let mut at = head;
        loop {
            self.pair_mut(at).dir = Some(id);
            if let Some(Names { last: l, in_order }) = walk.names.get(&at) {
                let first = self.thread.first(at).map(First::name);
                // names must ascend within each pair, and from pair to pair
                sorted &= *in_order
                    && !matches!((&last, first), (Some(l), Some(f)) if !name::cmp(l, f).is_lt());
                last = l.clone().or(last);
            }
            match self.continuation(at, walk) {
                Some(next) => {
                    pairs.push(next);
                    at = next;
                }
                None => break,
            }
        }
        self.dirs.set_head(id, self.pair(head).blocks);
        let tail = self.pair(at).disk_tail;
        let dir = &mut self.dirs[id];
        (dir.pairs, dir.sorted) = (pairs, sorted);
        dir.cut = (tail.hard && !tail.pair.is_null()).then_some(tail.pair);
        id
    }

    /// The pair that the hardtail of `at` leads to. This is the next pair in the thread, unless a
    /// newer copy has replaced the content of `at`. Then the thread in memory still continues as
    /// the tail of the older content said.
    fn continuation(&mut self, at: PairIx, walk: &mut Walk) -> Option<PairIx> {
        let is_next = |fs: &Self, ix: PairIx| {
            let p = fs.pair(ix);
            p.continues && p.dir.is_none()
        };
        let tail = self.pair(at).disk_tail;
        let next = self.pair(at).next;
        if !walk.renewed.contains(&at) || next.is_some_and(|n| self.pair(n).blocks.same(tail.pair))
        {
            return next.filter(|&n| is_next(self, n));
        }
        if !tail.hard || tail.pair.is_null() {
            return None;
        }
        let known = tail.pair.0.map(|b| walk.by_block.get(&b).copied());
        let problem = match known {
            // the pairs in between leave the thread (`forget_passed`)
            [Some(a), Some(b)] if a == b && is_next(self, a) => return Some(a),
            [Some(old), None] | [None, Some(old)] if is_next(self, old) => {
                let blocks = self.pair(old).blocks;
                match store::fetch_relocated(self.durable.dev(), tail.pair, blocks) {
                    Ok(f) => return Some(self.take_half_orphan(old, f, walk)),
                    Err(e) => e,
                }
            }
            [None, None] => match store::fetch_dir_packed(self.durable.dev(), tail.pair) {
                Ok(f) => {
                    let ix = self.take_pair(f, walk);
                    self.pair_mut(ix).continues = true;
                    self.thread.link_after(at, ix);
                    walk.renewed.insert(ix);
                    if self.pair(ix).threaded && !walk.hides_commits {
                        self.durable.set_gstate(self.durable.gstate().xor(self.pair(ix).gdelta));
                    }
                    return Some(ix);
                }
                Err(e) => e,
            },
            _ => Error::Corrupt(Corrupt::PairReachedTwice(tail.pair)),
        };
        self.damage(&problem);
        None
    }

    /// Find the pairs in the thread that the tree does not name. If the sync bit is set, an
    /// interrupted operation left them there, and the first write takes them out. If it is not set,
    /// damage took away the names of their directories, and they wait for `check --repair`.
    fn find_orphans(&mut self, walk: &mut Walk) {
        let is_orphan = |(ix, p): (PairIx, &PairInfo)| {
            (p.dir.is_none() && !p.chain && !walk.superblocks.contains(&ix)).then_some(ix)
        };
        let mut orphans: Vec<PairIx> = self.thread.iter().filter_map(is_orphan).collect();
        if !orphans.is_empty() {
            self.warn(match orphans.len() {
                1 => "1 metadata pair in the thread belongs to no directory".to_owned(),
                n => format!("{n} metadata pairs in the thread belong to no directory"),
            });
        }
        // With the sync bit, orphans count as removed. But if an entry is damaged, this may be why
        // an orphan with entries has lost its name. Then nothing is dropped, and nothing is
        // written.
        let holds = orphans.iter().any(|ix| walk.filled.contains(ix));
        let is_doubtful = self.may_have_lost_a_name(walk) || self.disputes_sync(walk);
        if walk.needs_sync && holds && is_doubtful {
            self.damage(
                &"an operation was interrupted and something is damaged, so it is not known which \
                  directories were removed and which have lost their name",
            );
        } else if walk.needs_sync {
            for ix in &orphans {
                self.pair_mut(*ix).fate = Fate::Removed;
                walk.lists.remove(ix);
            }
        }
        self.forget_passed();
        orphans.retain(|ix| {
            let stays = |p: &PairInfo| p.threaded && p.fate == Fate::Stays;
            self.thread.find(*ix).is_some_and(stays) && walk.filled.contains(ix)
        });
        self.nameless = orphans;
    }

    /// Check that the global state still names the move whose source is hidden, and names its pair
    /// by both blocks. The newer copies of relocated pairs change the sum of the deltas, and no
    /// driver leaves copies that cancel a move out of another pair, or a move that names the blocks
    /// of a pair before it was relocated. So it is not known whether that entry was moved.
    fn check_hidden(&mut self) {
        let Some((m, Move { source, .. })) = self.moves.first() else { return };
        if let Some((named, _)) = self.durable.gstate().pending_move() {
            if !self.pair(source).blocks.same(named) {
                self.damage(&Corrupt::MoveOutOfNoPair(named));
            }
            return;
        }
        let is_hidden = |mdir: &Mdir| mdir.entries.iter().any(|e| e.role == Role::Leaving(m));
        if self.mdir(source).is_ok_and(|mdir| is_hidden(mdir)) {
            let pair = self.pair(source).blocks;
            self.damage(&format_args!(
                "the thread names a move out of {pair}, but the newer copy of a relocated pair \
                 does not"
            ));
        }
    }

    /// Whether the newer copies of relocated pairs clear the sync bit. A driver that relocates a pair
    /// sets it, and clears it only after the thread names the new blocks.
    fn disputes_sync(&self, walk: &Walk) -> bool {
        !walk.renewed.is_empty() && !self.durable.gstate().needs_sync()
    }

    /// Whether a damaged entry in the tree may once have named a directory.
    fn may_have_lost_a_name(&self, walk: &Walk) -> bool {
        walk.doubtful.iter().any(|&ix| self.thread.find(ix).is_some_and(|p| p.dir.is_some()))
    }
}

impl Fs {
    /// Forget orphans that are in the thread only because the old content of a relocated pair led
    /// to them. On disk, the tail of the newer content passes over them already, so no tail has to
    /// be written.
    fn forget_passed(&mut self) {
        for ix in self.thread.ids() {
            let Some(p) = self.thread.find(ix) else { continue };
            if !p.threaded || p.fate != Fate::Stays || !self.thread.tail_is_right(ix, View::Final) {
                continue;
            }
            for passed in self.thread.skip_from(ix, View::Final).0 {
                self.durable.set_gstate(self.durable.gstate().xor(self.pair(passed).gdelta));
                self.thread.unlink(passed);
                self.thread.forget(passed);
            }
        }
    }
}

/// A program size above [`PROG_SIZE_PLAUSIBLE`] is inferred from the ends of commits only if there
/// are at least this many commits.
const COMMITS_MIN: u32 = 8;
/// The largest program size that is inferred from few commits, in bytes: the page size of NOR
/// flash.
const PROG_SIZE_PLAUSIBLE: u32 = 256;

/// Infer the program size of the writer of the image. A forward CRC covers exactly one program unit
/// (SPEC: `0x5ff` FCRC). Without forward CRCs, the program size is the largest power of two of
/// which the end of every commit is a multiple.
fn infer_prog_size(block_size: u32, walk: &Walk) -> u32 {
    if walk.prog_hint > 0 && block_size.is_multiple_of(walk.prog_hint) {
        return walk.prog_hint;
    }
    match walk.ends.trailing_zeros() {
        // there are no commits
        32.. => PROG_SIZE_DEFAULT,
        n => {
            let mut unit = 1 << n;
            if walk.commits < COMMITS_MIN {
                unit = PROG_SIZE_PLAUSIBLE.min(unit);
            }
            if block_size.is_multiple_of(unit) { unit } else { PROG_SIZE_DEFAULT }
        }
    }
}
