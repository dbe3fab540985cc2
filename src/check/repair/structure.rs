//! Repairing directories and the thread. Entries and tails that lead nowhere are removed, and a
//! broken thread is built again from all pairs that were found.
//!
//! No commit removes the last pointer to a readable pair. In a broken thread, all deltas are
//! cleared before any tail changes. Some of them may be missing, and as soon as the thread is
//! whole, their sum would count as the global state.

use std::collections::BTreeMap;

use super::editor::{Editor, EntryEdit, PairEdit};
use super::model::{BadEntry, Model, Node};
use super::{RETHREADED, Repair};
use crate::disk::{GState, Tail};
use crate::error::{Error, Result};

/// With more rounds than this, the repair makes no progress. One round clears the global state, one
/// repairs, and another may be needed because an entry that got a new type names something broken.
const ROUNDS_MAX: usize = 5;

/// What to do about the content of a lost directory. Directories below it may be intact, but
/// nothing leads to them any more, and nothing shows which two blocks belong together.
const SEARCH: &str =
    "run 'littlefs recover' now, before anything else is written: it may find what was below";

/// Remove everything that leads nowhere.
pub(super) fn mend(editor: &Editor, done: &mut Vec<Repair>) -> Result<()> {
    let mut is_settled = false;
    for _ in 0..ROUNDS_MAX {
        let model = Model::build(&*editor.dev)?;
        if !model.is_damaged() && model.bad.is_empty() {
            return Ok(());
        }
        if model.gstate.is_zero() {
            apply(editor, &model, done)?;
        } else if std::mem::replace(&mut is_settled, true) {
            // settling it again would delete another entry
            return Err(Error::Internal("the repair cannot clear the global state"));
        } else {
            settle(editor, &model)?;
            let message = "an interrupted operation was finished".to_owned();
            let code = if model.misnames_move() { "move-lost" } else { "sync-pending" };
            done.push(Repair::new(code, "global state", message));
        }
    }
    Err(Error::Internal("the repair of the directories does not come to an end"))
}

/// Do what the global state asks for, and clear it. This comes first, because the global state
/// names an entry by its id, and the repair changes ids and tails.
fn settle(editor: &Editor, model: &Model) -> Result<()> {
    let moved = model.moved_away();
    let (node, id) = match moved {
        Some((node, id)) => (node, Some(id)),
        None => (model.thread[0], None),
    };
    let delta = model.nodes[node].gdelta.xor(model.gstate);
    let entries = id.map(|id| (id, EntryEdit::Remove)).into_iter().collect();
    editor.commit(
        model.nodes[node].pair,
        PairEdit { entries, gdelta: Some(delta), ..PairEdit::default() },
    )
}

fn apply(editor: &Editor, model: &Model, done: &mut Vec<Repair>) -> Result<()> {
    let mut edits: BTreeMap<usize, PairEdit> = BTreeMap::new();
    for BadEntry { node, id, path, code, why, edit, .. } in &model.bad {
        edits.entry(*node).or_default().entries.insert(*id, *edit);
        done.push(match edit {
            EntryEdit::Retype(_) => Repair::new(code, path, "now has the type of its content"),
            EntryEdit::Dir(pair) => Repair::new(
                code,
                path,
                format!("now leads to {pair}, to which the directory had been moved"),
            ),
            _ if *code == "directory-broken" => {
                Repair::given_up(code, path, format!("its entry was removed: {why}; {SEARCH}"))
            }
            _ => Repair::given_up(code, path, format!("its entry was removed: {why}")),
        });
    }
    for (i, n) in model.nodes.iter().enumerate().filter(|(_, n)| !n.replaced) {
        if n.cut && n.dir.is_some() {
            match n.tail {
                // the thread goes on there
                Some(tail) if n.threaded && model.thread_break.is_none() => {
                    edits.entry(i).or_default().tail = Some(Tail { hard: false, ..tail });
                }
                // the new thread decides
                Some(_) if n.threaded => {}
                _ => edits.entry(i).or_default().tail = Some(Tail::END),
            }
            let dir = n.dir.map_or_else(String::new, |d| {
                let dir = &model.dirs[d as usize];
                if d == 0 { "/".into() } else { model.path(dir.parent, &dir.name) }
            });
            let message = format!(
                "now ends before a pair that cannot be read or is not its own; the entries after \
                 that are lost; {SEARCH}"
            );
            done.push(Repair::given_up("directory-broken", &dir, message));
        }
        if n.unreadable {
            edits.entry(i).or_default();
            let message = "was rewritten from its readable block".to_owned();
            done.push(Repair::given_up("pair-unreadable", n.pair, message));
        }
    }
    accept_older_states(editor, model, &mut edits, done)?;
    let mut last = None;
    if model.thread_break.is_some() {
        let order = new_thread(model);
        clear_deltas(editor, model, &order)?;
        for (i, tail) in tails(model, &order) {
            edits.entry(i).or_default().tail = Some(tail);
        }
        last = model.thread.last().copied();
        let message = match order.len() {
            1 => "now leads through the only metadata pair that was found".to_owned(),
            n => format!("now leads through all {n} metadata pairs that were found"),
        };
        let code = if model.thread_loops { "thread-loop" } else { "thread-broken" };
        done.push(Repair::new(code, "the thread", message));
    }
    if model.thread_break.is_none() && (model.disputes_move() || model.disputes_sync()) {
        for (i, tail) in renewed_tails(model) {
            edits.entry(i).or_default().tail = Some(tail);
        }
        done.push(match model.disputes_move() {
            true => {
                let message = "the move that only old blocks named was cleared";
                Repair::new("move-lost", "global state", message)
            }
            false => Repair::new("half-orphan", "the thread", RETHREADED),
        });
    }
    let (joint, rest): (Vec<_>, Vec<_>) = edits.into_iter().partition(|(i, _)| Some(*i) == last);
    for (i, edit) in rest.into_iter().chain(joint) {
        editor.commit(model.nodes[i].pair, edit)?;
    }
    Ok(())
}

/// Rewrite pairs that have commits behind a damaged one in the state that a driver reads. The global
/// state is cleared before, because it is not known.
fn accept_older_states(
    editor: &Editor,
    model: &Model,
    edits: &mut BTreeMap<usize, PairEdit>,
    done: &mut Vec<Repair>,
) -> Result<()> {
    if model.hides_commits() {
        clear_deltas(editor, model, &model.thread)?;
    }
    for (i, n) in model.nodes.iter().enumerate().filter(|(_, n)| !n.replaced) {
        if n.hides.is_some() {
            edits.entry(i).or_default();
            let message = "was rewritten in the state that a driver reads; the later changes in it \
                           are lost; run 'littlefs recover' now, before anything else is written: \
                           it finds the files of these changes";
            done.push(Repair::given_up("commits-hidden", n.pair, message));
        }
    }
    Ok(())
}

/// The tails that must change so that the thread names relocated pairs by their new blocks. The sum
/// of the deltas of the new copies stays the same.
fn renewed_tails(model: &Model) -> Vec<(usize, Tail)> {
    let renewed = |tail: Tail| {
        // the blocks of an old copy are known as those of the new one
        let new = &model.nodes[model.known(tail.pair)?];
        let leads_to_old = new.is_newer && !new.pair.same(tail.pair);
        leads_to_old.then_some(Tail { pair: new.pair, ..tail })
    };
    let nodes = model.nodes.iter().enumerate().filter(|(_, n)| n.threaded && !n.replaced);
    nodes.filter_map(|(i, n)| Some((i, renewed(n.tail?)?))).collect()
}

/// Clear the deltas of all pairs of a broken thread. As long as the thread is broken, nobody takes
/// the sum of its deltas for the global state. But once the tails are repaired, the thread is whole
/// again. An operation that was interrupted before the damage must not be finished then, because
/// the ids that it names may refer to other entries.
///
/// A pair may share a block with the pair at which the thread breaks off, if one of them was
/// relocated. A commit to that block can make the thread whole, so it comes last.
///
/// The sum does not count either as long as a pair has commits behind a damaged one. A commit to such
/// a pair removes them, so these pairs come last, too.
fn clear_deltas(editor: &Editor, model: &Model, order: &[usize]) -> Result<()> {
    let nodes = order.iter().map(|&i| &model.nodes[i]).filter(|n| !n.gdelta.is_zero());
    let at_break = |n: &&Node| model.thread_break.is_some_and(|pair| pair.overlaps(n.pair));
    let comes_last = |n: &&Node| at_break(n) || n.hides.is_some();
    let (last, first): (Vec<&Node>, Vec<&Node>) = nodes.partition(comes_last);
    for node in first.into_iter().chain(last) {
        let edit = PairEdit { gdelta: Some(GState::default()), ..PairEdit::default() };
        editor.commit(node.pair, edit)?;
    }
    Ok(())
}

/// Every pair once: first the thread as far as it can be followed, then one directory after the
/// other, each followed by the pairs to which its last tail leads. So no pointer is lost without a
/// replacement.
fn new_thread(model: &Model) -> Vec<usize> {
    let mut order = model.thread.clone();
    let mut placed = vec![false; model.nodes.len()];
    order.iter().for_each(|&i| placed[i] = true);
    let by_block: BTreeMap<u32, u32> = model
        .dirs
        .iter()
        .enumerate()
        .filter_map(|(d, dir)| Some((d as u32, dir.chain.first()?)))
        .flat_map(|(d, &head)| model.nodes[head].pair.0.map(|b| (b, d)))
        .collect();
    let mut put_dirs_from = |order: &mut Vec<usize>, from: u32| {
        let mut next = Some(from);
        while let Some(d) = next {
            let chain = &model.dirs[d as usize].chain;
            if chain.iter().any(|&i| placed[i]) {
                return;
            }
            chain.iter().for_each(|&i| placed[i] = true);
            order.extend(chain);
            let tail = chain.last().and_then(|&i| model.nodes[i].tail);
            next = tail.and_then(|t| t.pair.0.iter().find_map(|b| by_block.get(b).copied()));
        }
    };
    for d in 0..model.dirs.len() as u32 {
        put_dirs_from(&mut order, d);
    }
    order
}

/// The tails that must change so that the thread has this order.
fn tails(model: &Model, order: &[usize]) -> Vec<(usize, Tail)> {
    let mut changed = Vec::new();
    for (k, &i) in order.iter().enumerate() {
        let n = &model.nodes[i];
        let want = match order.get(k + 1) {
            None => Tail::END,
            Some(&j) => {
                let next = &model.nodes[j];
                let kept = n.tail.is_some_and(|t| t.hard && t.pair.same(next.pair));
                let same_dir = n.dir.is_some() && n.dir == next.dir;
                Tail { pair: next.pair, hard: same_dir || (n.superblock && kept) }
            }
        };
        let right = match n.tail {
            None => want.pair.is_null(),
            Some(t) => t.hard == want.hard && t.pair.same(want.pair),
        };
        if !right {
            changed.push((i, want));
        }
    }
    changed
}
