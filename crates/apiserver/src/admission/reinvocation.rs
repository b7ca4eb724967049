//! Mutating admission that runs a second time: when a webhook or a policy has changed the object, everything built in
//! looks at it again, and so do those that asked for it (`reinvocationPolicy: IfNeeded`). Never a third time
//! (upstream's `admission/reinvocation.go`).

use std::collections::BTreeSet;

use serde_json::Value;

/// How often one request's object has been through, and who is to see it again.
#[derive(Debug, Default)]
pub struct Rounds {
    is_second: bool,
    wants_second: bool,
    pub policies: Invoked,
    pub webhooks: Invoked,
}

impl Rounds {
    pub fn is_second(&self) -> bool {
        self.is_second
    }

    /// Somebody outside has changed the object.
    pub fn want_second(&mut self) {
        self.wants_second = true;
    }

    /// Begins the second round if there is to be one.
    pub fn begin_second(&mut self) -> bool {
        let begins = self.wants_second && !self.is_second;
        self.is_second |= begins;
        begins
    }
}

/// Of one plugin: who was asked, and wants to be asked again when others have changed the object since.
#[derive(Debug, Default)]
pub struct Invoked {
    before: BTreeSet<String>,
    again: BTreeSet<String>,
    /// The object as it left the plugin; kept only if somebody wants to know.
    left: Option<Value>,
}

impl Invoked {
    /// Somebody that is asked again was asked.
    pub fn add(&mut self, who: &str) {
        self.before.insert(who.to_owned());
    }

    /// The object was changed: all who were asked so far are to see it again.
    pub fn object_changed(&mut self) {
        self.again.append(&mut self.before);
    }

    /// Whether somebody is asked in the second round.
    pub fn is_asked_again(&self, who: &str) -> bool {
        self.again.contains(who)
    }

    /// The second round comes to the plugin: what others have done to the object in between counts, too.
    pub fn enter(&mut self, object: &Value) {
        if self.left.as_ref().is_some_and(|left| left != object) {
            self.object_changed();
        }
    }

    pub fn leave(&mut self, object: &Value) {
        self.left = (!self.before.is_empty()).then(|| object.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rounds() {
        let mut rounds = Rounds::default();
        assert!(!rounds.begin_second());
        rounds.want_second();
        assert!(rounds.begin_second() && rounds.is_second());
        // There is no third one, whoever wants it.
        rounds.want_second();
        assert!(!rounds.begin_second());
    }

    #[test]
    fn who_is_asked_again() {
        let mut invoked = Invoked::default();
        invoked.add("a");
        invoked.object_changed();
        invoked.add("b");
        assert!(invoked.is_asked_again("a") && !invoked.is_asked_again("b"));
        invoked.leave(&json!({"n": 1}));
        invoked.enter(&json!({"n": 1}));
        assert!(!invoked.is_asked_again("b"));
        invoked.enter(&json!({"n": 2}));
        assert!(invoked.is_asked_again("b"));
    }
}
