//! The path patterns of all routes, and the rules behind each.
//!
//! Patterns without a parameter are looked up as they are. Of the others it is what stands before their first parameter, to its last
//! slash, and only the rest is a tree; trees that are the same are one, whichever routes and prefixes they stand behind. So a
//! path among many costs one look-up where a single tree would lead to it through many nodes, each of them somewhere else in
//! memory.
//!
//! The longest prefix is asked first. That is the order of one tree for all, which prefers what is written out to a parameter:
//! of two patterns that fit a path, the one with the longer prefix has text where the other has its first parameter.

use super::names::Names;
use super::preflights;
use foldhash::HashMap;
use http::Method;
use nylon_config::plan::PathRule;

/// Prefixes of more slashes are cut: no more of a path's are looked up.
const DEEPEST: usize = 31;
/// No prefix is without a slash, so this bit of [`Table::depths`] is free.
const FIXED: u32 = 1;

/// Names of parameters, and what stands in the path for them.
pub(super) type Captured<'p> = Vec<(&'p str, &'p str)>;

/// One rule behind a pattern.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) methods: Vec<Method>,
    /// Counted from the route's first.
    pub(super) rule: usize,
    pub(super) pattern: usize,
    /// Its middleware answers the preflights of other sites' pages.
    pub(super) preflights: bool,
}

impl Target {
    pub(super) fn accepts(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }
}

/// The patterns of one route.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    number: u32,
    /// How many slashes the prefixes have that there are: a bit for each number. Bit 0: there are patterns without a parameter.
    depths: u32,
}

/// The patterns of all routes.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    tables: u32,
    /// Those without a parameter, by table: one that is the whole path wins over all others.
    fixed: Names<Targets>,
    /// What the others begin with, up to a slash.
    prefixes: Names<Group>,
    /// What follows: which pattern of its group it is.
    rests: Vec<matchit::Router<u32>>,
    /// The patterns of the groups, one group after the other.
    grouped: Vec<Targets>,
    targets: Vec<Target>,
}

/// The rules behind one pattern, by their places.
#[derive(Clone, Copy, Debug, Default)]
struct Targets {
    from: u32,
    to: u32,
}

/// The patterns behind one prefix.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    rests: u32,
    /// The place of its first pattern.
    first: u32,
}

/// The trees that there are, while a router is built.
pub(super) type Rests<'p> = HashMap<Vec<&'p str>, u32>;

impl Patterns {
    /// Adds a route's.
    ///
    /// # Errors
    /// A pattern that a tree refuses.
    pub(super) fn add<'p>(&mut self, rules: &'p [PathRule], known: &mut Rests<'p>) -> Result<Table, String> {
        self.add_patterns(by_pattern(rules), known)
    }

    fn add_patterns<'p>(
        &mut self,
        patterns: Vec<(&'p str, Vec<Target>)>,
        known: &mut Rests<'p>,
    ) -> Result<Table, String> {
        let mut table = Table { number: self.tables, depths: 0 };
        self.tables += 1;
        let mut groups = Ordered::default();
        let mut all = Vec::new();
        for (text, targets) in patterns {
            let from = number(self.targets.len());
            self.targets.extend(targets);
            let targets = Targets { from, to: number(self.targets.len()) };
            all.push((text, targets));
            match text.find(['{', '}']) {
                Some(end) => {
                    let (prefix, depth) = prefix(&text[..end]);
                    table.depths |= 1 << depth;
                    // The slash belongs to both.
                    groups.of(prefix).push((&text[prefix.len() - 1..], targets));
                }
                None => {
                    table.depths |= FIXED;
                    self.fixed.insert(table.number, text, targets);
                }
            }
        }
        let mut groups = groups.items;
        let trees: Result<Vec<u32>, _> = groups.iter().map(|(_, group)| self.tree(group, known)).collect();
        let trees = match trees {
            Ok(trees) => trees,
            // Which patterns go into one tree depends on what else is in it, and on the order. Validation has seen all of them in it.
            Err(_) => {
                groups = vec![("/", all)];
                table.depths = table.depths & FIXED | 1 << 1;
                vec![self.tree(&groups[0].1, known)?]
            }
        };
        for ((prefix, group), rests) in groups.into_iter().zip(trees) {
            self.prefixes.insert(table.number, prefix, Group { rests, first: number(self.grouped.len()) });
            self.grouped.extend(group.iter().map(|(_, targets)| *targets));
        }
        Ok(table)
    }

    /// The tree for the rests of a group.
    fn tree<'p>(&mut self, group: &[(&'p str, Targets)], known: &mut Rests<'p>) -> Result<u32, String> {
        let texts: Vec<&str> = group.iter().map(|(text, _)| *text).collect();
        if let Some(rests) = known.get(&texts) {
            return Ok(*rests);
        }
        let mut tree = matchit::Router::new();
        for (place, text) in texts.iter().enumerate() {
            tree.insert(*text, number(place)).map_err(|error| format!("{text}: {error}"))?;
        }
        self.rests.push(tree);
        let rests = number(self.rests.len() - 1);
        known.insert(texts, rests);
        Ok(rests)
    }

    /// The rules behind the pattern of a path, and what that captured.
    pub(super) fn at<'t>(&'t self, table: Table, path: &'t str) -> Option<(&'t [Target], Captured<'t>)> {
        if table.depths & FIXED != 0
            && let Some(targets) = self.fixed.get(table.number, path)
        {
            return Some((self.behind(targets), Vec::new()));
        }
        let slashes = path.bytes().filter(|byte| *byte == b'/').count();
        let ends = path.rmatch_indices('/').map(|(at, _)| at);
        for (depth, at) in (1..=slashes).rev().zip(ends) {
            if depth > DEEPEST || table.depths & (1 << depth) == 0 {
                continue;
            }
            let Some(group) = self.prefixes.get(table.number, &path[..=at]) else { continue };
            if let Ok(found) = self.rests[group.rests as usize].at(&path[at..]) {
                let targets = self.grouped[(group.first + found.value) as usize];
                return Some((self.behind(targets), found.params.iter().collect()));
            }
        }
        None
    }

    fn behind(&self, targets: Targets) -> &[Target] {
        &self.targets[targets.from as usize..targets.to as usize]
    }

    #[cfg(test)]
    pub(super) fn trees(&self) -> usize {
        self.rests.len()
    }
}

/// What a pattern begins with, up to the last slash before its first parameter, and how many slashes that has.
fn prefix(written_out: &str) -> (&str, usize) {
    let ends = written_out.match_indices('/').take(DEEPEST).map(|(at, _)| at + 1);
    let (end, slashes) = ends.fold((0, 0), |(_, slashes), end| (end, slashes + 1));
    (&written_out[..end], slashes)
}

/// The rules behind each pattern of a route.
fn by_pattern(rules: &[PathRule]) -> Vec<(&str, Vec<Target>)> {
    let mut patterns = Ordered::default();
    for (rule, path) in rules.iter().enumerate() {
        for (pattern, text) in path.patterns.iter().enumerate() {
            let methods = path.methods.clone();
            patterns.of(text).push(Target { methods, rule, pattern, preflights: preflights(path) });
        }
    }
    patterns.items
}

/// Lists by text, in the order in which they were begun.
struct Ordered<'p, T> {
    items: Vec<(&'p str, Vec<T>)>,
    places: HashMap<&'p str, usize>,
}

impl<T> Default for Ordered<'_, T> {
    fn default() -> Self {
        Ordered { items: Vec::new(), places: HashMap::default() }
    }
}

impl<'p, T> Ordered<'p, T> {
    fn of(&mut self, text: &'p str) -> &mut Vec<T> {
        let place = *self.places.entry(text).or_insert_with(|| {
            self.items.push((text, Vec::new()));
            self.items.len() - 1
        });
        &mut self.items[place].1
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("fewer patterns than bytes of a configuration")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table<'p>(patterns: &mut Patterns, texts: &[&'p str], known: &mut Rests<'p>) -> Table {
        let target = |rule| Target { methods: Vec::new(), rule, pattern: 0, preflights: false };
        let texts = texts.iter().enumerate().map(|(rule, text)| (*text, vec![target(rule)]));
        patterns.add_patterns(texts.collect(), known).expect("patterns that go into one tree")
    }

    fn tree_of<'p>(
        texts: impl IntoIterator<Item = &'p str>,
    ) -> Result<matchit::Router<usize>, matchit::InsertError> {
        let mut tree = matchit::Router::new();
        for (place, text) in texts.into_iter().enumerate() {
            tree.insert(text, place)?;
        }
        Ok(tree)
    }

    fn segment() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "a", "b", "ab", "", "{x}", "{y}", "a{x}", "{x}b", "a{x}b", "{{", "}}a", "{*rest}",
        ])
    }

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(segment(), 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    fn path() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec!["a", "b", "ab", "aab", "", "{", "}a", "c"]);
        prop::collection::vec(segment, 1..6).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    proptest! {
        /// What matchit says of all of them in one tree is the rule.
        #[test]
        fn it_finds_what_one_tree_finds(
            texts in prop::collection::vec(text(), 1..8),
            others in prop::collection::vec(text(), 1..8),
            paths in prop::collection::vec(path(), 1..20),
        ) {
            let (mut patterns, mut known) = (Patterns::default(), Rests::default());
            let mut tables = Vec::new();
            for texts in [&texts, &others] {
                let mut tree = matchit::Router::new();
                let mut taken: Vec<&str> = Vec::new();
                for text in texts {
                    // A tree that has refused a pattern may have changed all the same.
                    if let Ok(with) = tree_of(taken.iter().copied().chain([text.as_str()])) {
                        tree = with;
                        taken.push(text);
                    }
                }
                let table = table(&mut patterns, &taken, &mut known);
                tables.push((tree, table));
            }
            for path in &paths {
                for (tree, table) in &tables {
                    let expected = tree.at(path).ok().map(|found| (*found.value, found.params.iter().collect::<Vec<_>>()));
                    let found = patterns.at(*table, path).map(|(targets, params)| (targets[0].rule, params));
                    prop_assert_eq!(found, expected, "{} among {:?}", path, texts);
                }
            }
        }
    }

    #[test]
    fn patterns_that_go_together_only_with_a_third_are_found() {
        let texts = ["/{x}b", "/a", "/a{x}"];
        assert!(tree_of(texts).is_ok() && tree_of(["/{x}b", "/a{x}"]).is_err(), "so matchit says");
        let (mut patterns, mut known) = (Patterns::default(), Rests::default());
        let table = table(&mut patterns, &texts, &mut known);
        for (path, rule) in [("/qb", Some(0)), ("/a", Some(1)), ("/ab", Some(2)), ("/q", None)] {
            let found = patterns.at(table, path).map(|(targets, _)| targets[0].rule);
            assert_eq!(found, rule, "{path}");
        }
    }

    #[test]
    fn a_prefix_of_any_depth_is_found() {
        let deep = |slashes: usize| format!("{}/{{x}}/end", "/s".repeat(slashes));
        let texts: Vec<String> = [1, 30, 31, 32, 40].map(deep).into();
        let (mut patterns, mut known) = (Patterns::default(), Rests::default());
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let table = table(&mut patterns, &texts, &mut known);
        for (rule, text) in texts.iter().enumerate() {
            let path = text.replace("{x}", "7");
            let found = patterns.at(table, &path).map(|(targets, params)| (targets[0].rule, params));
            assert_eq!(found, Some((rule, vec![("x", "7")])), "{path}");
        }
        assert!(patterns.at(table, &"/s".repeat(60)).is_none());
    }
}
