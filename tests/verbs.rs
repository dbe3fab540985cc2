//! The commands that work in images without a mount, as their users call them: `create`, `extract`,
//! `clone`, `resize`, `ls`, `tree`, `du`, `cat`, `stat`, `get`, `put`, those that edit, `diff`, `verify`,
//! `inspect` and `map`; and the program under the names of other tools.

#[path = "hostile/builder.rs"]
#[expect(dead_code)]
mod builder;
mod common;

#[path = "verbs/attr.rs"]
mod attr;
#[path = "verbs/benching.rs"]
mod benching;
#[path = "verbs/browser.rs"]
mod browser;
#[path = "verbs/changing.rs"]
mod changing;
#[path = "verbs/cloning.rs"]
mod cloning;
#[path = "verbs/compacted.rs"]
mod compacted;
#[path = "verbs/comparing.rs"]
mod comparing;
#[path = "verbs/creating.rs"]
mod creating;
#[path = "verbs/desk.rs"]
mod desk;
#[path = "verbs/dropins.rs"]
mod dropins;
#[path = "verbs/edited.rs"]
mod edited;
#[path = "verbs/editing.rs"]
mod editing;
#[path = "verbs/inspecting.rs"]
mod inspecting;
#[path = "verbs/interrupted.rs"]
mod interrupted;
#[path = "verbs/mapping.rs"]
mod mapping;
#[path = "verbs/odd.rs"]
mod odd;
#[path = "verbs/paging.rs"]
mod paging;
#[path = "verbs/reading.rs"]
mod reading;
#[path = "verbs/resizing.rs"]
mod resizing;
#[path = "verbs/shell.rs"]
mod shell;
#[path = "verbs/suiting.rs"]
mod suiting;
#[path = "verbs/syncing.rs"]
mod syncing;
#[path = "verbs/undoing.rs"]
mod undoing;
#[path = "verbs/verifying.rs"]
mod verifying;
#[path = "verbs/version1.rs"]
mod version1;
