//! `c3 --help`: lists the commands in groups. Clap has no headings for commands, so a template contains the list.

use std::fmt::Write;

use clap::Command;
use clap::builder::StyledStr;

/// Commands by group, in the order of the help.
const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Documents",
        &[
            "put",
            "append",
            "get",
            "ls",
            "search",
            "stat",
            "rm",
            "recode",
            "uploads",
            "latents",
            "put-latents",
            "compress",
            "decompress",
        ],
    ),
    ("Names and labels", &["name", "label"]),
    ("Maintenance", &["doctor", "fsck", "gc", "reindex", "store", "key", "tenant"]),
    ("Nodes", &["nodes", "top", "bench"]),
    ("Serving", &["serve", "mcp", "roundtrip", "certs"]),
    ("Shell", &["completions", "man", "help"]),
];

/// Description of the command that clap adds when it parses.
const HELP_ABOUT: &str = "Print the help of a command";

/// Returns the command with a help that lists its subcommands in groups.
pub(super) fn with_groups(command: Command) -> Command {
    let template = template(&command);
    command.help_template(template)
}

fn template(command: &Command) -> StyledStr {
    let style = command.get_styles();
    let (header, literal) = (style.get_header(), style.get_literal());
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (group, names) in GROUPS {
        write!(text, "\n{header}{group}:{header:#}\n").expect("writing to a string never fails");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map_or_else(|| HELP_ABOUT.to_owned(), ToString::to_string);
            writeln!(text, "  {literal}{name:11}{literal:#}  {about}").expect("writing to a string never fails");
        }
    }
    write!(text, "\n{header}Options:{header:#}\n{{options}}{{after-help}}").expect("writing to a string never fails");
    text.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut command = super::super::command();
        command.build();
        let grouped = Vec::from_iter(GROUPS.iter().flat_map(|(_, names)| names.iter().copied()));
        let all = BTreeSet::from_iter(command.get_subcommands().map(Command::get_name));
        assert_eq!(BTreeSet::from_iter(grouped.iter().copied()), all);
        assert_eq!(grouped.len(), all.len());
    }

    #[test]
    fn descriptions_are_one_imperative_line() {
        fn check(command: &Command) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.') && !about.contains('\n'), "{about}");
            assert!(about.len() <= 66, "{about}");
            let first = about.split(' ').next().unwrap_or_default();
            assert!(
                first.starts_with(char::is_uppercase) && !first.ends_with("es,") && !first.ends_with("ing"),
                "{about}"
            );
            command.get_subcommands().for_each(check);
        }
        super::super::command().get_subcommands().for_each(check);
    }

    #[test]
    fn every_help_has_examples() {
        fn check(command: &Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_shown = help.contains("Example") && help.contains(command.get_bin_name().unwrap_or_default());
            assert!(is_shown, "{}: {help}", command.get_name());
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
        }
        let mut command = super::super::command();
        command.build();
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
    }
}
