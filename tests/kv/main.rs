//! The key-value store: `littlefs::kv` and `littlefs kv`.
//!
//! Scenarios of chamelon's own tests, and where they are tested here:
//!
//! | chamelon | here |
//! |---|---|
//! | test_mirage: format | `scenarios::a_new_store_is_empty` |
//! | get/set roundtrip, non-ascii data, non-ascii key | `scenarios::what_is_set_is_got` |
//! | get/set with an empty key | `scenarios::the_root_is_no_value` |
//! | too big a key | `scenarios::names_too_long_are_refused` |
//! | mkdir -p | `scenarios::set_makes_the_dictionaries_on_the_way` |
//! | disk full | `space::a_full_store_says_so_and_keeps_what_it_has` |
//! | set_partial | `scenarios::set_partial_writes_over_and_appends` |
//! | allocate | `scenarios::allocate_makes_zeros_where_nothing_is` |
//! | last modified: overwrite, directory, one level, errors | `times::*` |
//! | get nonexistent, a dictionary, /littlefs on a new one | `scenarios::get_says_what_is_wrong` |
//! | get a big value; get_partial pretty far into a big file | `values::every_size_around_the_boundaries` |
//! | get_partial: valid, bad offset, length, both, in a dir | `scenarios::get_partial_is_short_at_the_end` |
//! | size: missing, small, empty, directory, nested, overwrite, deleted | `scenarios::size_is_that_of_the_values` |
//! | digest: empty files, slash, overwrite, dict | `scenarios::digests_are_of_content` |
//! | files until no space is left (split) | `space::values_until_no_space_is_left` |
//! | rename | `scenarios::rename_*` |
//! | removals are recursive | `space::dictionaries_until_no_space_is_left` |
//! | can't remove / | `scenarios::the_root_stays` |
//! | regressions: deletion after a split, write to a fresh split | `scenarios::writes_around_a_split` |
//! | two values of 2 MB, reconnect, replace one, in 64 MB | `scenarios::large_values_survive_a_reconnect` |
//! | test_cycles: a directory that refers to the root | `scenarios::a_cycle_is_not_followed` |
//! | test_dirs: root, 100 dictionaries made, removed, 100 values made, removed | `scenarios::a_hundred_of_each` |
//! | mem_test_read: head, tail, block-straddling; bench/read | `values::partial_reads_read_what_they_need` |
//! | fuzz: read written info; size is the sum of the values | `model::as_the_model_does` |
//! | lib_test: tags, block, entry, compaction, split, roundtrips | unit tests of `src/disk`, `src/mdir.rs`; `tests/differential` |
//! | lib_test: last block index, sizes of entries | `values::every_size_around_the_boundaries`, unit tests of `src/disk/ctz.rs` |
//! | src/dune: empty ls, big, rootdir, rewrite, subdir, runtest; justfile: read, hardtail | `command::*` |

mod batches;
mod command;
mod crash;
mod creating;
mod helpers;
mod limits;
mod memory;
mod model;
mod scan;
mod scenarios;
mod space;
mod threads;
mod times;
mod values;
