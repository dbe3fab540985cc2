//! A hint for command lines whose words are in the wrong order.

use std::borrow::Cow;
use std::ffi::OsString;

use clap::Command;

/// What to write instead, if a command line that was refused names an action of its command in the
/// wrong place. `args` begin with the name of the program.
pub fn hint(program: &Command, args: &[OsString]) -> Option<String> {
    let words = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    let words: Vec<Cow<'_, str>> = words.filter(|word| !word.starts_with('-')).take(4).collect();
    let [name, rest @ ..] = &words[..] else { return None };
    let command = program.find_subcommand(&**name)?;
    let is_action = |word: &Cow<'_, str>| is_action(command, word);
    let takes_image = command.get_positionals().next().is_some_and(|arg| arg.get_id() == "image");
    let place = usize::from(takes_image);
    if rest.get(place).is_some_and(is_action) {
        return None;
    }
    let action = rest.iter().find(|word| is_action(word))?;
    Some(match takes_image {
        true => format!("'{action}' comes after the image: littlefs {name} IMAGE {action} ..."),
        false => format!("'{action}' comes first: littlefs {name} {action} ..."),
    })
}

/// Whether the command has a subcommand of this name, or a word that takes the place of one.
fn is_action(command: &Command, word: &str) -> bool {
    let values = command.get_positionals().nth(1).map(|arg| arg.get_possible_values());
    command.find_subcommand(word).is_some()
        || values.unwrap_or_default().iter().any(|value| value.matches(word, false))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn actions_in_the_wrong_place_are_noticed() {
        let program = super::super::Cli::command();
        for (line, expected) in [
            ("kv get a.img key", Some("littlefs kv IMAGE get ...")),
            ("kv --json set a.img key value", Some("littlefs kv IMAGE set ...")),
            ("attr get a.img file 0x74", Some("littlefs attr IMAGE get ...")),
            ("attr a.img file list", Some("littlefs attr IMAGE list ...")),
            ("inspect pair a.img 0,1", Some("littlefs inspect IMAGE pair ...")),
            ("journal a.journal log", Some("littlefs journal log ...")),
            ("kv a.img get", None),
            ("kv list list", None),
            ("kv a.img none key", None),
            ("journal log", None),
            ("ls pair log", None),
            ("nothing get a.img", None),
            ("", None),
        ] {
            let args: Vec<OsString> =
                ["littlefs"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
            let hint = hint(&program, &args);
            match expected {
                Some(end) => assert!(hint.is_some_and(|hint| hint.ends_with(end)), "{line}"),
                None => assert_eq!(hint, None, "{line}"),
            }
        }
    }
}
