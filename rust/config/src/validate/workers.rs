//! The workers of a plugin behind a broker: one group, or several by weight, and a mirror.

use super::messaging::is_token;
use crate::{
    kinds::Text,
    plan::{GroupShare, Workers},
    raw,
    report::Report,
};

pub(super) fn of(written: &raw::Plugin, report: &mut Report<'_>) -> Option<Workers> {
    let groups = match (&written.group, &written.groups) {
        (Some(group), None) => vec![(&group.0, 1)],
        (None, Some(groups)) => shares(written, groups, report)?,
        (Some(group), Some(_)) => {
            report.error_help(
                group.0.place,
                "either `group` or `groups`, not both",
                "put this group into `groups`, with the weight that it shall have",
            );
            return None;
        }
        (None, None) if written.has("group") || written.has("groups") => return None,
        // Workers of a plugin that names no group join the group of the plugin's name.
        (None, None) => vec![(written.name.as_ref()?, 1)],
    };
    let mirror = written.mirror.as_ref().map(|mirror| &mirror.0);
    groups.iter().map(|(name, _)| *name).chain(mirror).for_each(|name| check_name(name, report));
    if let Some(mirror) = mirror
        && groups.iter().any(|(name, _)| name.value == mirror.value)
    {
        report.error_help(
            mirror.place,
            format!("`{}` cannot mirror itself: it is a group of this plugin already", mirror.value),
            "a mirror is another group, whose answers are only measured",
        );
    }
    let share = |(name, weight): (&Text, u32)| GroupShare { name: name.value.clone(), weight };
    Some(Workers {
        groups: groups.into_iter().map(share).collect(),
        mirror: mirror.map(|mirror| mirror.value.clone()),
    })
}

fn shares<'w>(
    written: &raw::Plugin,
    groups: &'w [raw::Group],
    report: &mut Report<'_>,
) -> Option<Vec<(&'w Text, u32)>> {
    if groups.is_empty() {
        let place = written.name.as_ref().map_or(written.place, |name| name.place);
        report.error(place, "the list of `groups` is empty");
        return None;
    }
    let mut shares: Vec<(&Text, u32)> = Vec::new();
    for group in groups {
        let (Some(name), Some(weight)) = (group.name.as_ref().map(|name| &name.0), group.weight) else {
            // The reader has said why.
            return None;
        };
        if let Some((first, _)) = shares.iter().find(|(known, _)| known.value == name.value) {
            let first = report.at(first.place);
            report.error(name.place, format!("the group `{}` stands already at {first}", name.value));
        }
        shares.push((name, u32::try_from(weight.value).unwrap_or(u32::MAX)));
    }
    if shares.iter().all(|(_, weight)| *weight == 0) {
        report.error_help(
            groups[0].place,
            "all weights are 0: no group would get a session",
            "give a group a weight above 0",
        );
    }
    Some(shares)
}

fn check_name(group: &Text, report: &mut Report<'_>) {
    if !is_token(&group.value) {
        report.error_help(
            group.place,
            format!("`{}` is no name for a queue group", group.value),
            "a group is one word without dots, spaces, `*` and `>`",
        );
    }
}
