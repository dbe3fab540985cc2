//! The trees that may exist after a crash.

use std::collections::{BTreeMap, BTreeSet};

use super::script::ID;
use testkit::tree::{Attrs, Kind, Tree, show, split};

/// The identity of an object: its attribute, or its path if it has no attribute (the root).
type Id = Vec<u8>;

/// An object without its name.
struct Object {
    /// The directory that contains it.
    parent: Id,
    name: Vec<u8>,
    kind: Kind,
    attrs: Attrs,
}

fn id_of(tree: &Tree, path: &[u8]) -> Id {
    match tree.get(path).and_then(|e| e.attrs.get(&ID)) {
        Some(id) => id.clone(),
        None => [b"path ", path].concat(),
    }
}

/// All objects except the root, by identity.
fn objects(tree: &Tree) -> Result<BTreeMap<Id, Object>, String> {
    let mut objects = BTreeMap::new();
    for (path, entry) in tree {
        let Some((parent, name)) = split(path) else { continue };
        let object = Object {
            parent: id_of(tree, parent),
            name: name.to_vec(),
            kind: entry.kind.clone(),
            attrs: entry.attrs.clone(),
        };
        if let Some(other) = objects.insert(id_of(tree, path), object) {
            let other = show(&other.name);
            return Err(format!("there twice: {} and {other}", show(path)));
        }
    }
    Ok(objects)
}

/// A tree, prepared for comparisons.
pub struct State {
    objects: BTreeMap<Id, Object>,
    /// Names in use: the directory, and the name in it.
    slots: BTreeSet<(Id, Vec<u8>)>,
}

impl State {
    pub fn new(tree: &Tree) -> Result<Self, String> {
        let objects = objects(tree)?;
        let slots = objects.values().map(|o| (o.parent.clone(), o.name.clone())).collect();
        Ok(Self { objects, slots })
    }
}

/// Judge `found`, the tree after a crash during the flush of the last of `states` over the first
/// one.
///
/// Each object must have its old or its new place, content and attributes, and it must exist if it
/// existed before and after. Each name that existed all the time must exist. The states in between
/// are allowed for the content of an object that will be removed, and with `any` for everything.
pub fn judge(states: &[State], any: bool, found: &Tree) -> Result<(), String> {
    let found = State::new(found)?;
    let (Some(old), Some(new)) = (states.first(), states.last()) else { return Ok(()) };
    for (id, o) in &found.objects {
        let name = show(&o.name);
        let ends: Vec<&Object> = [old, new].into_iter().filter_map(|s| s.objects.get(id)).collect();
        let all = || states.iter().filter_map(|s| s.objects.get(id)).collect();
        let places = if any { all() } else { ends.clone() };
        let goes = !new.objects.contains_key(id);
        let contents = if any || goes { all() } else { ends };
        if places.is_empty() {
            return Err(format!("neither old nor new: {name}"));
        }
        if !places.iter().any(|v| v.parent == o.parent && v.name == o.name) {
            return Err(format!("neither place, old or new: {name}"));
        }
        if !contents.iter().any(|v| v.kind == o.kind) {
            return Err(format!("mixed content: {name}"));
        }
        if !contents.iter().any(|v| v.attrs == o.attrs) {
            return Err(format!("mixed attributes: {name}"));
        }
    }
    for (id, o) in &old.objects {
        let stays = states.iter().all(|s| s.objects.contains_key(id));
        if stays && !found.objects.contains_key(id) {
            return Err(format!("lost object: {}", show(&o.name)));
        }
    }
    for slot in &old.slots {
        let stays = states.iter().all(|s| s.slots.contains(slot));
        if stays && !found.slots.contains(slot) {
            return Err(format!("lost name: {}", show(&slot.1)));
        }
    }
    Ok(())
}
