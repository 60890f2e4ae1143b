//! The pages of the management API: their paths, and the methods that each has.

/// A page. Names are as the client gave them; the one vhost is checked already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'t> {
    Overview,
    ClusterName,
    Nodes,
    Node(&'t str),
    WhoAmI,
    Vhosts,
    Vhost,
    Connections,
    Connection(&'t str),
    ConnectionChannels(&'t str),
    Channels,
    Channel(&'t str),
    Consumers,
    Exchanges,
    Exchange(&'t str),
    ExchangeBindings {
        exchange: &'t str,
        source: bool,
    },
    Publish(&'t str),
    Queues,
    Queue(&'t str),
    QueueBindings(&'t str),
    QueueContents(&'t str),
    Get(&'t str),
    Bindings,
    BindingsBetween(Ends<'t>),
    Binding(Ends<'t>, &'t str),
    Users,
    User(&'t str),
    Permissions,
    /// Those of a user in all vhosts.
    UserPermissions(&'t str),
    /// Those of a user in the one vhost.
    UserPermission(&'t str),
    /// Everything, or what belongs to the vhost.
    Definitions {
        vhost: bool,
    },
    Aliveness,
    Health(&'t str),
    /// What RabbitMQ has and this broker never has any of.
    Nothing,
}

/// What a binding connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends<'t> {
    pub(super) source: &'t str,
    pub(super) destination: &'t str,
    /// The destination is a queue; else it is an exchange.
    pub(super) to_queue: bool,
}

impl<'t> Route<'t> {
    /// The page at `path`, the segments after `api`.
    pub(super) fn find(path: &[&'t str]) -> Option<Self> {
        Some(match *path {
            ["overview"] => Self::Overview,
            ["cluster-name"] => Self::ClusterName,
            ["nodes"] => Self::Nodes,
            ["nodes", name] => Self::Node(name),
            ["whoami"] => Self::WhoAmI,
            ["vhosts"] => Self::Vhosts,
            ["vhosts", "/"] => Self::Vhost,
            ["connections"] | ["vhosts", "/", "connections"] => Self::Connections,
            ["connections", name] => Self::Connection(name),
            ["connections", name, "channels"] => Self::ConnectionChannels(name),
            ["channels"] | ["vhosts", "/", "channels"] => Self::Channels,
            ["channels", name] => Self::Channel(name),
            ["consumers"] | ["consumers", "/"] => Self::Consumers,
            ["exchanges", ref rest @ ..] => return Self::exchange(rest),
            ["queues", ref rest @ ..] => return Self::queue(rest),
            ["bindings", ref rest @ ..] => return Self::binding(rest),
            ["users"] => Self::Users,
            ["users", name] => Self::User(name),
            ["users", name, "permissions"] => Self::UserPermissions(name),
            ["permissions", "/", name] => Self::UserPermission(name),
            ["permissions"] | ["vhosts", "/", "permissions"] => Self::Permissions,
            ["definitions"] => Self::Definitions { vhost: false },
            ["definitions", "/"] => Self::Definitions { vhost: true },
            ["aliveness-test", "/"] => Self::Aliveness,
            ["health", "checks", check] => Self::Health(check),
            [
                "extensions" | "feature-flags" | "global-parameters" | "topic-permissions" | "policies"
                | "operator-policies" | "vhost-limits" | "parameters",
            ]
            | ["policies" | "operator-policies" | "vhost-limits", "/"]
            | ["parameters", _]
            | ["parameters", _, "/"] => Self::Nothing,
            _ => return None,
        })
    }

    fn exchange(path: &[&'t str]) -> Option<Self> {
        // The default exchange has an empty name, which a path cannot end with.
        let name = |name: &'t str| if name == "amq.default" { "" } else { name };
        Some(match *path {
            [] | ["/"] => Self::Exchanges,
            ["/", exchange] => Self::Exchange(name(exchange)),
            ["/", exchange, "bindings", "source"] => {
                Self::ExchangeBindings { exchange: name(exchange), source: true }
            }
            ["/", exchange, "bindings", "destination"] => {
                Self::ExchangeBindings { exchange: name(exchange), source: false }
            }
            ["/", exchange, "publish"] => Self::Publish(name(exchange)),
            _ => return None,
        })
    }

    fn queue(path: &[&'t str]) -> Option<Self> {
        Some(match *path {
            [] | ["/"] => Self::Queues,
            ["/", queue] => Self::Queue(queue),
            ["/", queue, "bindings"] => Self::QueueBindings(queue),
            ["/", queue, "contents"] => Self::QueueContents(queue),
            ["/", queue, "get"] => Self::Get(queue),
            _ => return None,
        })
    }

    fn binding(path: &[&'t str]) -> Option<Self> {
        let ["/", "e", source, kind @ ("q" | "e"), destination, ref rest @ ..] = *path else {
            return matches!(path, [] | ["/"]).then_some(Self::Bindings);
        };
        let source = if source == "amq.default" { "" } else { source };
        let ends = Ends { source, destination, to_queue: kind == "q" };
        match *rest {
            [] => Some(Self::BindingsBetween(ends)),
            [properties_key] => Some(Self::Binding(ends, properties_key)),
            _ => None,
        }
    }

    /// Whether the page shows what only administrators may see: the hashes of passwords, for instance.
    pub(super) fn is_for_administrators(self) -> bool {
        matches!(
            self,
            Self::Users
                | Self::User(_)
                | Self::Permissions
                | Self::UserPermissions(_)
                | Self::UserPermission(_)
                | Self::Definitions { .. }
        )
    }

    /// The methods of the page, as the field `Allow` names them.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Exchange(_) | Self::Queue(_) => "HEAD, GET, PUT, DELETE",
            Self::Connection(_) | Self::Binding(..) => "HEAD, GET, DELETE",
            Self::BindingsBetween(_) | Self::Definitions { .. } => "HEAD, GET, POST",
            Self::QueueContents(_) => "DELETE",
            Self::Publish(_) | Self::Get(_) => "POST",
            _ => "HEAD, GET",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_pages() {
        let find = |path: &'static str| Route::find(&path.split('|').collect::<Vec<_>>());
        assert_eq!(find("overview"), Some(Route::Overview));
        assert_eq!(find("queues|/"), Some(Route::Queues));
        assert_eq!(find("queues|/|get"), Some(Route::Queue("get")));
        assert_eq!(find("queues|/|get|get"), Some(Route::Get("get")));
        assert_eq!(find("exchanges|/|amq.default|publish"), Some(Route::Publish("")));
        let ends = |to_queue| Ends { source: "", destination: "b", to_queue };
        assert_eq!(find("bindings|/|e||q|b"), Some(Route::BindingsBetween(ends(true))));
        assert_eq!(find("bindings|/|e|amq.default|e|b|~"), Some(Route::Binding(ends(false), "~")));
        assert_eq!((find("policies|/"), find("policies|/|x")), (Some(Route::Nothing), None));
        for unknown in ["queues|other", "queues|other|q", "nothing", "bindings|/|q|a|e|b", "exchanges|/|a|b"]
        {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
