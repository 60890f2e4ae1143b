//! Who may log in. Passwords are kept as salted hashes in RabbitMQ's format, so its definitions files can be used.

use std::hash::{BuildHasher, Hasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The only algorithm that is known: base64 of a salt of 4 bytes and SHA-256 of salt and password.
pub(crate) const HASHING_ALGORITHM: &str = "rabbit_password_hashing_sha256";
/// The tag of users who may use the whole management API.
pub(crate) const ADMINISTRATOR: &str = "administrator";
/// The tag of users who may look at everything there but other users.
const MONITORING: &str = "monitoring";

/// A user. All users may do everything with queues and messages.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    password: PasswordHash,
    /// What the user may do with the management API.
    pub(crate) tags: Vec<String>,
}

#[derive(Clone, Copy)]
struct PasswordHash {
    salt: [u8; 4],
    digest: [u8; 32],
}

impl PasswordHash {
    fn new(salt: [u8; 4], password: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
        Self { salt, digest: digest.into() }
    }

    /// That of a password in the settings, with a salt that differs at every start.
    fn random(password: &str) -> Self {
        // The standard library seeds its hash tables from the operating system's random numbers.
        let random = RandomState::new().build_hasher().finish().to_be_bytes();
        Self::new([random[0], random[1], random[2], random[3]], password.as_bytes())
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 36] = STANDARD.decode(text).ok()?.try_into().ok()?;
        let (salt, digest) = (bytes.first_chunk()?, bytes.last_chunk()?);
        Some(Self { salt: *salt, digest: *digest })
    }

    /// Whether this is the hash of `password`. Takes the same time for every password of one length.
    fn fits(&self, password: &[u8]) -> bool {
        let found = Self::new(self.salt, password).digest;
        found.iter().zip(&self.digest).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl User {
    /// The hash of the password as RabbitMQ's definitions have it.
    pub(crate) fn password_hash(&self) -> String {
        STANDARD.encode([&self.password.salt[..], &self.password.digest].concat())
    }

    /// Whether the user may use the management API; to change something takes more than to look.
    pub(crate) fn may_manage(&self, changes: bool) -> bool {
        self.is_administrator() || (!changes && self.tags.iter().any(|tag| tag == MONITORING))
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.tags.iter().any(|tag| tag == ADMINISTRATOR)
    }
}

/// The users of the settings and of the file that they name.
#[derive(Clone, Default)]
pub(crate) struct Users(Vec<User>);

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|user| &user.name)).finish()
    }
}

impl Users {
    /// Adds a user who may do everything.
    pub(crate) fn add_administrator(&mut self, name: String, password: &str) {
        let tags = vec![ADMINISTRATOR.to_owned()];
        self.0.push(User { name, password: PasswordHash::random(password), tags });
    }

    /// Adds the users of a file, see [`Users::add_definitions`]. The error is a text for people.
    pub(crate) fn add_file(&mut self, file: &str) -> Result<(), String> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("read {file}: {e}"))?;
        self.add_definitions(&text).map_err(|e| format!("{file}: {e}"))
    }

    /// Adds the users of a file in the format of RabbitMQ's definitions; everything else in it is ignored, but for
    /// permissions.
    fn add_definitions(&mut self, text: &str) -> Result<(), String> {
        let definitions: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let Some(users) = definitions["users"].as_array() else {
            return Err("there is no list \"users\"".to_owned());
        };
        for definition in users {
            let user = parse_user(definition)?;
            if self.get(&user.name).is_some() {
                return Err(format!("the user '{}' is there already", user.name));
            }
            if definitions.get("permissions").is_some() && !has_permissions(&definitions, &user.name) {
                return Err(format!("the user '{}' has no permissions for the vhost '/'", user.name));
            }
            self.0.push(user);
        }
        check_permissions(&definitions)
    }

    /// The user of this name with this password. Takes the same time for unknown names and wrong passwords.
    pub(crate) fn find(&self, name: &[u8], password: &[u8]) -> Option<&User> {
        let named = self.0.iter().find(|user| user.name.as_bytes() == name);
        let fits = named.or(self.0.first()).is_some_and(|user| user.password.fits(password));
        // An empty password is never accepted, as RabbitMQ does it.
        named.filter(|_| fits && !password.is_empty())
    }

    /// The user of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&User> {
        self.iter().find(|user| user.name == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.iter()
    }
}

fn parse_user(definition: &Value) -> Result<User, String> {
    let Some(name) = definition["name"].as_str().filter(|name| !name.is_empty()) else {
        return Err("a user has no name".to_owned());
    };
    let algorithm = definition["hashing_algorithm"].as_str().unwrap_or("none");
    if algorithm != HASHING_ALGORITHM {
        return Err(format!(
            "the user '{name}' has the hashing algorithm {algorithm}, not {HASHING_ALGORITHM}"
        ));
    }
    let Some(password) = definition["password_hash"].as_str().and_then(PasswordHash::parse) else {
        let format = "base64 of 4 bytes of salt and 32 bytes of SHA-256";
        return Err(format!("the password_hash of the user '{name}' is not {format}"));
    };
    if definition["limits"].as_object().is_some_and(|limits| !limits.is_empty()) {
        return Err(format!("the user '{name}' has limits, which this broker does not support"));
    }
    let tags = match &definition["tags"] {
        Value::Array(tags) => tags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(tags) => tags.split(',').map(|tag| tag.trim().to_owned()).collect(),
        _ => Vec::new(),
    };
    Ok(User { name: name.to_owned(), password, tags })
}

fn has_permissions(definitions: &Value, user: &str) -> bool {
    let permissions = definitions["permissions"].as_array();
    permissions.into_iter().flatten().any(|one| one["user"] == user && one["vhost"] == "/")
}

/// Refuses permissions that would restrict a user: this broker has none, and nothing is ignored silently.
pub(crate) fn check_permissions(definitions: &Value) -> Result<(), String> {
    for permission in definitions["permissions"].as_array().into_iter().flatten() {
        let user = permission["user"].as_str().unwrap_or_default();
        if permission["vhost"] != "/" {
            let vhost = permission["vhost"].as_str().unwrap_or_default();
            return Err(format!(
                "permissions of '{user}' for the vhost '{vhost}': there is the vhost '/' only"
            ));
        }
        for kind in ["configure", "write", "read"] {
            if permission[kind] != ".*" {
                return Err(format!(
                    "the permission {kind} of '{user}' is not \".*\": in this broker every user may do everything"
                ));
            }
        }
    }
    if definitions["topic_permissions"].as_array().is_some_and(|some| !some.is_empty()) {
        return Err("topic_permissions are not supported".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use foundation::{Environment, Error};

    use super::*;

    fn users(pairs: &[(&'static str, &'static str)]) -> Result<Users, Error> {
        let first = [("RABBITMQ_USER", "first"), ("RABBITMQ_PASSWORD", "p:a,s s")];
        crate::settings::read_users(&Environment::from_pairs(first.into_iter().chain(pairs.iter().copied())))
    }

    fn accepts(users: &Users, name: &str, password: &str) -> bool {
        users.find(name.as_bytes(), password.as_bytes()).is_some_and(|user| user.name == name)
    }

    #[test]
    fn further_users_have_a_variable_each() {
        let users = users(&[
            ("BROKER_USERS", "audit, ops-2"),
            ("BROKER_PASSWORD_AUDIT", "x"),
            ("BROKER_PASSWORD_OPS_2", "y"),
        ]);
        let users = users.unwrap();
        assert!(accepts(&users, "first", "p:a,s s"));
        assert!(accepts(&users, "audit", "x") && accepts(&users, "ops-2", "y"));
        assert!(!accepts(&users, "audit", "y") && !accepts(&users, "nobody", "x"));
        // The first user's password does not let an unknown name in.
        assert!(!accepts(&users, "nobody", "p:a,s s") && !accepts(&users, "audit", ""));
        assert_eq!(format!("{users:?}"), r#"["first", "audit", "ops-2"]"#, "passwords are not shown");
        let error = self::users(&[("BROKER_USERS", "audit")]).unwrap_err().to_string();
        assert_eq!(error, "setting BROKER_PASSWORD_AUDIT: is not set");
        assert!(self::users(&[("BROKER_USERS", "first")]).unwrap_err().to_string().contains("distinct"));
    }

    /// What RabbitMQ 3.10 exported for the user u with the password p.
    const EXPORTED: &str = r#"{"users":[{"name":"u","password_hash":
        "iydCN5pO5ns1cfntATwVvvpO+K8VhcbJaAF5JcMydwC98TO4","hashing_algorithm":"rabbit_password_hashing_sha256",
        "tags":["monitoring"],"limits":{}}],"permissions":[{"user":"u","vhost":"/","configure":".*","write":".*",
        "read":".*"}],"topic_permissions":[]}"#;

    #[test]
    fn users_of_an_exported_file_log_in_with_their_passwords() {
        let mut users = users(&[]).unwrap();
        users.add_definitions(EXPORTED).unwrap();
        assert!(accepts(&users, "u", "p") && !accepts(&users, "u", "q"));
        let user = users.get("u").unwrap();
        assert_eq!(user.password_hash(), "iydCN5pO5ns1cfntATwVvvpO+K8VhcbJaAF5JcMydwC98TO4");
        assert!(user.may_manage(false) && !user.may_manage(true));
        assert_eq!(users.add_definitions(EXPORTED), Err("the user 'u' is there already".to_owned()));
    }

    #[test]
    fn what_a_file_asks_for_and_the_broker_does_not_do_is_refused() {
        for (from, to, problem) in [
            ("_sha256", "_sha512", "hashing algorithm"),
            ("iydCN", "", "base64"),
            (r#""limits":{}"#, r#""limits":{"max-connections":1}"#, "limits"),
            (r#""write":".*""#, r#""write":"^a""#, "the permission write of 'u'"),
            (r#""vhost":"/""#, r#""vhost":"x""#, "no permissions"),
            (r#""topic_permissions":[]"#, r#""topic_permissions":[1]"#, "topic_permissions"),
            (r#""users""#, r#""others""#, "no list"),
        ] {
            let error = users(&[]).unwrap().add_definitions(&EXPORTED.replace(from, to)).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let error = users(&[("BROKER_USERS_FILE", "/nowhere/users.json")]).unwrap_err().to_string();
        assert!(error.starts_with("setting BROKER_USERS_FILE: read /nowhere/users.json: "), "{error}");
    }
}
