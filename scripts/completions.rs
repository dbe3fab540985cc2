//! Additions to the completions that clap writes: paths inside images.
//!
//! `littlefs complete-paths LINE` prints the words to which the last word of a command line can be
//! completed. Its first line is `inside`, or `both` if files of the host are possible as well.

/// Replaces the last line of the completions for bash, which registers their function.
const BASH: &str = r#"
_littlefs_with_paths() {
    local line paths
    COMPREPLY=()
    # readline itself splits words that contain = or :
    if [[ $2 != -* && $2 != *[=:]* ]]; then
        line=${COMP_LINE:0:COMP_POINT}
        mapfile -t paths < <(command "$1" complete-paths -- "$line" 2>/dev/null)
        if ((${#paths[@]} > 0)); then
            COMPREPLY=("${paths[@]:1}")
            if [[ ${paths[0]} == both ]]; then
                mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$2")
            fi
            # readline quotes the words, and adds no space after a directory's slash
            compopt -o filenames +o default +o bashdefault
            if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then
                compopt -o nospace
            fi
            return 0
        fi
    fi
    _littlefs "$@"
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _littlefs_with_paths -o nosort -o bashdefault -o default littlefs
else
    complete -F _littlefs_with_paths -o bashdefault -o default littlefs
fi
"#;

/// Replaces the end of the completions for zsh.
const ZSH: &str = r#"
_littlefs_with_paths() {
    if [[ $PREFIX != -* ]]; then
        local -a paths
        paths=("${(@f)$(command $words[1] complete-paths -- "$LBUFFER" 2>/dev/null)}")
        if [[ -n $paths[1] ]]; then
            local mode=$paths[1]
            shift paths
            compadd -f -S '' -- $paths
            [[ $mode == both ]] && _files
            return 0
        fi
    fi
    _littlefs "$@"
}

if [ "$funcstack[1]" = "_littlefs" ]; then
    _littlefs_with_paths "$@"
else
    compdef _littlefs_with_paths littlefs
fi
"#;

/// Is appended to the completions for fish.
const FISH: &str = r#"
complete -c littlefs -a '(littlefs complete-paths -- (commandline -cp) 2>/dev/null | tail -n +2)'
"#;

/// The completions for bash, with paths.
///
/// # Errors
/// If the completions that clap wrote do not end as expected.
pub fn bash(text: &str) -> Result<String, String> {
    with(text, "\nif [[ \"${BASH_VERSINFO[0]}\" -eq 4", BASH)
}

/// The completions for zsh, with paths.
///
/// # Errors
/// If the completions that clap wrote do not end as expected.
pub fn zsh(text: &str) -> Result<String, String> {
    with(text, "\nif [ \"$funcstack[1]\" = \"_littlefs\" ]", ZSH)
}

/// The completions for fish, with paths.
pub fn fish(text: &str) -> String {
    text.to_owned() + FISH
}

fn with(text: &str, end: &str, new: &str) -> Result<String, String> {
    let at = text.rfind(end).ok_or_else(|| format!("the completions do not end in {end:?}"))?;
    Ok(text[..at].to_owned() + new)
}
