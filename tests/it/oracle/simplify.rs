//! Simplifies a failing situation as long as it still fails.

use super::situation::Situation;

/// The maximum number of simpler situations tried.
const TRIES: usize = 400;

/// The simplest situation found, and how it fails.
pub fn simplified(
    mut situation: Situation,
    mut text: String,
    still_fails: impl Fn(&Situation) -> Option<String>,
) -> (Situation, String) {
    let mut tries = 0;
    'simpler: loop {
        for simpler in simpler(&situation) {
            tries += 1;
            if tries > TRIES {
                return (situation, text);
            }
            if let Some(why) = still_fails(&simpler) {
                (situation, text) = (simpler, why);
                continue 'simpler;
            }
        }
        return (situation, text);
    }
}

/// This situation without one of its parts, the largest parts first.
fn simpler(situation: &Situation) -> Vec<Situation> {
    let routes = 0..situation.routes.len();
    let servers = 0..situation.servers.len();
    let is_unused = |server: &usize| situation.routes.iter().all(|route| route.server != *server);
    let groups = 0..situation.groups.len();
    let owners = 0..situation.owners.len();
    let mut simpler: Vec<Situation> = routes
        .map(|index| without_route(situation, index))
        .collect();
    simpler.extend(
        servers
            .filter(is_unused)
            .map(|index| without_server(situation, index)),
    );
    simpler.extend(groups.clone().map(|index| {
        changed(situation, |less| {
            less.groups.remove(index);
        })
    }));
    simpler.extend(owners.map(|index| {
        changed(situation, |less| {
            less.owners.remove(index);
        })
    }));
    if !situation.reserved.is_empty() {
        simpler.push(changed(situation, |less| less.reserved.clear()));
    }
    if !situation.tproxied.is_empty() {
        simpler.push(changed(situation, |less| less.tproxied.clear()));
    }
    for index in groups {
        let count = situation.groups[index].count;
        let fewer = [count / 2, count - 1]
            .into_iter()
            .filter(|fewer| *fewer > 0);
        simpler
            .extend(fewer.map(|fewer| changed(situation, |less| less.groups[index].count = fewer)));
    }
    simpler
}

fn changed(situation: &Situation, change: impl FnOnce(&mut Situation)) -> Situation {
    let mut less = situation.clone();
    change(&mut less);
    less
}

fn without_route(situation: &Situation, index: usize) -> Situation {
    changed(situation, |less| {
        less.routes.remove(index);
        less.groups.retain(|group| group.route != index);
        for group in &mut less.groups {
            group.route -= usize::from(group.route > index);
        }
    })
}

fn without_server(situation: &Situation, index: usize) -> Situation {
    changed(situation, |less| {
        less.servers.remove(index);
        for route in &mut less.routes {
            route.server -= usize::from(route.server > index);
        }
    })
}
