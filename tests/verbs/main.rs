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
mod editing;
mod editors;
mod inspecting;
mod interrupted;
mod loops;
mod mapping;
mod messages;
mod outputs;
mod paging;
mod profiles;
mod reading;
mod readme;
mod refused;
mod resizing;
mod shell;
mod syncing;
mod truncated;
mod undoing;
mod unusual_images;
mod verifying;
mod version1;
