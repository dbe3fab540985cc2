//! The commands that work on images without a mount, used as users use them: `create`, `extract`,
//! `clone`, `resize`, `ls`, `tree`, `du`, `cat`, `stat`, `get`, `put`, the commands that edit,
//! `diff`, `verify`, `inspect` and `map`; and the program under the names of other tools.

mod attr;
mod benching;
mod browser;
mod changing;
mod cloning;
mod compacted;
mod comparing;
mod creating;
mod dropins;
mod edited;
mod editing;
mod inspecting;
mod interrupted;
mod mapping;
mod messages;
mod odd;
mod outputs;
mod paging;
mod reading;
mod readme;
mod refused;
mod resizing;
mod shell;
mod suiting;
mod syncing;
mod truncated;
mod twice;
mod undoing;
mod verifying;
mod version1;
