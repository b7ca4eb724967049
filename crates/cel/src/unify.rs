//! Which types fit where, and what that says about the types not yet known.

use std::sync::Arc;

use crate::types::Type;

/// What is known of the type variables so far.
#[derive(Default)]
pub struct Bindings {
    known: Vec<Option<Type>>,
    /// Earlier values, so that a failed attempt leaves nothing behind.
    trail: Vec<(u32, Option<Type>)>,
}

impl Bindings {
    pub fn fresh(&mut self) -> Type {
        self.known.push(None);
        Type::Variable(self.known.len() as u32 - 1)
    }

    /// A declaration's type, with its parameters as fresh variables.
    pub fn instantiate(it: &Type, letters: &[u8], fresh: &[Type]) -> Type {
        let inner = |it: &Arc<Type>| Arc::new(Self::instantiate(it, letters, fresh));
        match it {
            Type::Param(letter) => {
                let index = letters.iter().position(|it| it == letter);
                index.and_then(|index| fresh.get(index)).cloned().unwrap_or(Type::Dyn)
            }
            Type::List(it) => Type::List(inner(it)),
            Type::Map(pair) => Type::map(
                Self::instantiate(&pair.0, letters, fresh),
                Self::instantiate(&pair.1, letters, fresh),
            ),
            Type::Opaque(name, Some(it)) => Type::Opaque(name.clone(), Some(inner(it))),
            Type::Type(Some(it)) => Type::Type(Some(inner(it))),
            other => other.clone(),
        }
    }

    fn find(&self, variable: u32) -> Option<&Type> {
        self.known.get(variable as usize).and_then(Option::as_ref)
    }

    fn bind(&mut self, variable: u32, to: Type) {
        if let Some(slot) = self.known.get_mut(variable as usize) {
            self.trail.push((variable, slot.replace(to)));
        }
    }

    /// The type with what is known put in; with `settle`, what is not known is `dyn`.
    pub fn substitute(&self, it: &Type, settle: bool) -> Type {
        let inner = |it: &Arc<Type>| Arc::new(self.substitute(it, settle));
        match it {
            Type::Variable(variable) => match self.find(*variable) {
                Some(known) => self.substitute(known, settle),
                None if settle => Type::Dyn,
                None => it.clone(),
            },
            Type::List(it) => Type::List(inner(it)),
            Type::Map(pair) => Type::map(self.substitute(&pair.0, settle), self.substitute(&pair.1, settle)),
            Type::Opaque(name, Some(it)) => Type::Opaque(name.clone(), Some(inner(it))),
            Type::Type(Some(it)) => Type::Type(Some(inner(it))),
            other => other.clone(),
        }
    }

    /// Whether the second type fits where the first one is wanted; variables are bound as needed if so.
    pub fn assignable(&mut self, one: &Type, other: &Type) -> bool {
        self.attempt(|this| this.fits(one, other))
    }

    pub fn all_assignable(&mut self, ones: &[Type], others: &[Type]) -> bool {
        self.attempt(|this| this.all_fit(ones, others))
    }

    fn attempt(&mut self, what: impl FnOnce(&mut Self) -> bool) -> bool {
        let mark = self.trail.len();
        let fits = what(self);
        if !fits {
            while self.trail.len() > mark {
                if let Some((variable, before)) = self.trail.pop() {
                    self.known[variable as usize] = before;
                }
            }
        }
        fits
    }

    fn all_fit(&mut self, ones: &[Type], others: &[Type]) -> bool {
        ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| self.fits(one, other))
    }

    fn fits(&mut self, one: &Type, other: &Type) -> bool {
        if let Type::Variable(variable) = other {
            let (valid, known) = self.stands_for(one, *variable);
            if valid {
                return true;
            }
            if known {
                return false;
            }
        }
        if let Type::Variable(variable) = one {
            return self.stands_for(other, *variable).0;
        }
        if one.is_dyn_or_error() || other.is_dyn_or_error() {
            return true;
        }
        match (one, other) {
            (Type::Null, it) | (it, Type::Null) => matches!(
                it,
                Type::Null | Type::Opaque(..) | Type::Struct(_) | Type::Duration | Type::Timestamp
            ),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(one), Type::List(other)) => self.fits(one, other),
            (Type::Map(one), Type::Map(other)) => self.fits(&one.0, &other.0) && self.fits(&one.1, &other.1),
            (Type::Opaque(one, first), Type::Opaque(other, second)) => {
                one == other
                    && match (first, second) {
                        (Some(first), Some(second)) => self.fits(first, second),
                        (None, None) => true,
                        _ => false,
                    }
            }
            _ => one == other,
        }
    }

    /// Whether a variable can stand for a type, and whether something was known of it already.
    fn stands_for(&mut self, it: &Type, variable: u32) -> (bool, bool) {
        if *it == Type::Variable(variable) {
            return (true, true);
        }
        if let Some(known) = self.find(variable).cloned() {
            if *it == known {
                return (true, true);
            }
            if !self.fits(it, &known) {
                return (false, true);
            }
            let general = most_general(it, &known);
            if self.free_of(variable, &general) {
                self.bind(variable, general);
            }
            return (true, true);
        }
        if self.free_of(variable, it) {
            self.bind(variable, it.clone());
            return (true, false);
        }
        (false, false)
    }

    fn free_of(&self, variable: u32, within: &Type) -> bool {
        match within {
            Type::Variable(other) if *other == variable => false,
            Type::Variable(other) => self.find(*other).is_none_or(|known| self.free_of(variable, known)),
            Type::List(inner) | Type::Opaque(_, Some(inner)) | Type::Type(Some(inner)) => {
                self.free_of(variable, inner)
            }
            Type::Map(pair) => self.free_of(variable, &pair.0) && self.free_of(variable, &pair.1),
            _ => true,
        }
    }
}

/// The one of two types that says less.
pub fn most_general(one: &Type, other: &Type) -> Type {
    if says_less(one, other) { one.clone() } else { other.clone() }
}

fn says_less(one: &Type, other: &Type) -> bool {
    let open = |it: &Type| matches!(it, Type::Dyn | Type::Variable(_) | Type::Param(_));
    if open(one) {
        return true;
    }
    if open(other) {
        return false;
    }
    match (one, other) {
        (Type::List(one), Type::List(other)) => says_less(one, other),
        (Type::Map(one), Type::Map(other)) => says_less(&one.0, &other.0) && says_less(&one.1, &other.1),
        (Type::Opaque(one, first), Type::Opaque(other, second)) => {
            one == other
                && match (first, second) {
                    (Some(first), Some(second)) => says_less(first, second),
                    (None, None) => true,
                    _ => false,
                }
        }
        (Type::Type(_), Type::Type(_)) => true,
        _ => one == other,
    }
}
