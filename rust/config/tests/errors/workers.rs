//! Mistakes in the groups of workers that a plugin has.

use super::case;

fn groups(written: &str, text: &str, reason: &str, help: Option<&str>) {
    case("group: g}", &format!("groups: {written}}}"), text, reason, help);
}

#[test]
fn groups_have_names_of_their_own_and_a_weight_somewhere() {
    groups("[]", "far", "the list of `groups` is empty", None);
    groups(
        "[{name: a, weight: 0}, {name: b, weight: 0}]",
        "name",
        "all weights are 0: no group would get a session",
        Some("give a group a weight above 0"),
    );
    groups("[{name: a}, {name: b}, {name: a}]", "a", "the group `a` stands already at nylon.yaml:7:52", None);
    groups("[{weight: 3}]", "weight", "one of `groups` needs the key `name`", None);
    groups("[{name: a, weight: -1}]", "-1", "expected a whole number from 0 to 1000000, found -1", None);
    groups(
        "[{name: a.b}]",
        "a.b",
        "`a.b` is no name for a queue group",
        Some("a group is one word without dots, spaces, `*` and `>`"),
    );
    groups(
        "[{name: a, wight: 3}]",
        "wight",
        "unknown key `wight` in one of `groups`",
        Some("did you mean `weight`?"),
    );
}

#[test]
fn one_group_and_several_exclude_each_other() {
    case(
        "group: g}",
        "group: g, groups: [{name: a}]}",
        "g",
        "either `group` or `groups`, not both",
        Some("put this group into `groups`, with the weight that it shall have"),
    );
}

#[test]
fn groups_belong_to_plugins_on_workers() {
    case(
        "{name: auth, file: plugin.py}",
        "{name: auth, type: python, file: plugin.py, groups: [{name: a}]}",
        "name",
        "`groups` belongs to a plugin of `type: messaging`",
        None,
    );
}

#[test]
fn a_mirror_is_another_group() {
    case(
        "group: g}",
        "group: g, mirror: g}",
        "g",
        "`g` cannot mirror itself: it is a group of this plugin already",
        Some("a mirror is another group, whose answers are only measured"),
    );
    case(
        "group: g}",
        "groups: [{name: a}, {name: b}], mirror: b}",
        "b",
        "`b` cannot mirror itself: it is a group of this plugin already",
        Some("a mirror is another group, whose answers are only measured"),
    );
}
