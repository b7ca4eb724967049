//! The macros: `has`, the comprehensions over one and two variables, the optional ones, `sortBy` and, where an
//! environment has it, `cel.bind`.

use std::sync::Arc;

use crate::ast::{Comprehension, Expr, Id, Literal};
use crate::parser::Parser;

/// The accumulator's name, which no expression can write.
pub const ACCUMULATOR: &str = "@result";
/// The name that it had once, which variables still must not take.
const FORMER_ACCUMULATOR: &str = "__result__";
/// The variable of a comprehension that only binds a name.
pub const UNUSED: &str = "#unused";
const SORT_INPUT: &str = "@__sortBy_input__";

/// A fault at an argument.
type Fault = (Id, std::borrow::Cow<'static, str>);

impl Parser<'_> {
    /// What a call stands for, if it is a macro.
    pub(crate) fn expand(
        &mut self,
        offset: u32,
        function: &str,
        target: Option<Id>,
        args: &[Id],
    ) -> Option<Result<Id, Fault>> {
        let mut make = Make { parser: self, offset };
        let Some(target) = target else {
            return match (function, args) {
                ("has", [arg]) => Some(make.has(*arg)),
                _ => None,
            };
        };
        Some(match (function, args) {
            ("all" | "exists" | "exists_one", [variable, predicate]) => make
                .variable(*variable, "argument must be a simple name")
                .map(|name| make.quantifier(function, target, name, None, *predicate)),
            ("all" | "exists" | "exists_one" | "existsOne", [first, second, predicate]) => make
                .variables(*first, *second)
                .map(|(first, second)| make.quantifier(function, target, first, Some(second), *predicate)),
            ("map", [variable, transform]) => make.map(target, *variable, None, *transform),
            ("map", [variable, filter, transform]) => make.map(target, *variable, Some(*filter), *transform),
            ("filter", [variable, predicate]) => {
                make.variable(*variable, "argument is not an identifier").map(|name| {
                    let list = make.list(vec![*variable]);
                    let step = make.append(list, Some(*predicate));
                    let init = make.list(Vec::new());
                    make.fold(target, name, None, init, step)
                })
            }
            ("transformList" | "transformMap" | "transformMapEntry", [first, second, rest @ ..])
                if matches!(rest.len(), 1 | 2) =>
            {
                let (filter, transform) =
                    if rest.len() == 2 { (Some(rest[0]), rest[1]) } else { (None, rest[0]) };
                make.transform(function, target, (*first, *second), filter, transform)
            }
            ("optMap", [variable, mapped]) => make.optional(target, *variable, *mapped, true),
            ("optFlatMap", [variable, mapped]) => make.optional(target, *variable, *mapped, false),
            ("sortBy", [variable, key]) => make.sort_by(target, *variable, *key),
            ("bind", [variable, value, mapped]) if make.binds_to(target) => match make.parser.expr(*variable)
            {
                Expr::Ident(name) => {
                    let name = name.clone();
                    Ok(make.bind(name, *value, *mapped))
                }
                _ => Err((*variable, "cel.bind() variable names must be simple identifiers".into())),
            },
            _ => return None,
        })
    }
}

struct Make<'p, 's> {
    parser: &'p mut Parser<'s>,
    offset: u32,
}

impl Make<'_, '_> {
    fn push(&mut self, expr: Expr) -> Id {
        self.parser.push(self.offset, expr)
    }

    /// Whether a target is the namespace `cel`, with bindings in the language.
    fn binds_to(&self, target: Id) -> bool {
        self.parser.binds && matches!(self.parser.expr(target), Expr::Ident(name) if **name == *"cel")
    }

    fn literal(&mut self, literal: Literal) -> Id {
        self.push(Expr::Literal(literal))
    }

    fn ident(&mut self, name: &str) -> Id {
        self.push(Expr::Ident(name.into()))
    }

    fn accumulator(&mut self) -> Id {
        self.ident(ACCUMULATOR)
    }

    fn list(&mut self, elements: Vec<Id>) -> Id {
        let optional = vec![false; elements.len()];
        self.push(Expr::List { elements, optional })
    }

    fn call(&mut self, function: &str, args: Vec<Id>) -> Id {
        self.parser.call(self.offset, function, None, args)
    }

    fn member(&mut self, function: &str, target: Id, args: Vec<Id>) -> Id {
        self.parser.call(self.offset, function, Some(target), args)
    }

    fn has(&mut self, arg: Id) -> Result<Id, Fault> {
        match self.parser.expr(arg).clone() {
            Expr::Select { operand, field, .. } => {
                Ok(self.push(Expr::Select { operand, field, test_only: true }))
            }
            _ => Err((arg, "invalid argument to has() macro".into())),
        }
    }

    fn variable(&mut self, id: Id, otherwise: &'static str) -> Result<Arc<str>, Fault> {
        match self.parser.expr(id) {
            Expr::Ident(name) if **name == *ACCUMULATOR || **name == *FORMER_ACCUMULATOR => {
                Err((id, "iteration variable overwrites accumulator variable".into()))
            }
            Expr::Ident(name) => Ok(name.clone()),
            _ => Err((id, otherwise.into())),
        }
    }

    fn variables(&mut self, first: Id, second: Id) -> Result<(Arc<str>, Arc<str>), Fault> {
        let one = self.variable(first, "argument must be a simple name")?;
        let two = self.variable(second, "argument must be a simple name")?;
        if one == two {
            return Err((second, format!("duplicate variable name: {one}").into()));
        }
        Ok((one, two))
    }

    /// Goes on to the end of the range, and gives the accumulator.
    fn fold(&mut self, range: Id, variable: Arc<str>, second: Option<Arc<str>>, init: Id, step: Id) -> Id {
        let condition = self.literal(Literal::Bool(true));
        let result = self.accumulator();
        self.comprehension(Comprehension {
            range,
            variable,
            second,
            accumulator: ACCUMULATOR.into(),
            init,
            condition,
            step,
            result,
        })
    }

    fn comprehension(&mut self, it: Comprehension) -> Id {
        self.push(Expr::Comprehension(Box::new(it)))
    }

    fn quantifier(
        &mut self,
        kind: &str,
        range: Id,
        variable: Arc<str>,
        second: Option<Arc<str>>,
        predicate: Id,
    ) -> Id {
        let (init, condition, step, result);
        match kind {
            "all" => {
                init = self.literal(Literal::Bool(true));
                let so_far = self.accumulator();
                condition = self.call("@not_strictly_false", vec![so_far]);
                let so_far = self.accumulator();
                step = self.call("_&&_", vec![so_far, predicate]);
                result = self.accumulator();
            }
            "exists" => {
                init = self.literal(Literal::Bool(false));
                let so_far = self.accumulator();
                let not = self.call("!_", vec![so_far]);
                condition = self.call("@not_strictly_false", vec![not]);
                let so_far = self.accumulator();
                step = self.call("_||_", vec![so_far, predicate]);
                result = self.accumulator();
            }
            _ => {
                init = self.literal(Literal::Int(0));
                condition = self.literal(Literal::Bool(true));
                let (so_far, one) = (self.accumulator(), self.literal(Literal::Int(1)));
                let more = self.call("_+_", vec![so_far, one]);
                let same = self.accumulator();
                step = self.call("_?_:_", vec![predicate, more, same]);
                let (count, one) = (self.accumulator(), self.literal(Literal::Int(1)));
                result = self.call("_==_", vec![count, one]);
            }
        }
        let accumulator = ACCUMULATOR.into();
        self.comprehension(Comprehension {
            range,
            variable,
            second,
            accumulator,
            init,
            condition,
            step,
            result,
        })
    }

    /// The accumulator with something added, where the filter holds.
    fn append(&mut self, added: Id, filter: Option<Id>) -> Id {
        let so_far = self.accumulator();
        let step = self.call("_+_", vec![so_far, added]);
        self.filtered(step, filter)
    }

    fn filtered(&mut self, step: Id, filter: Option<Id>) -> Id {
        let Some(filter) = filter else { return step };
        let same = self.accumulator();
        self.call("_?_:_", vec![filter, step, same])
    }

    fn map(&mut self, range: Id, variable: Id, filter: Option<Id>, transform: Id) -> Result<Id, Fault> {
        let name = self.variable(variable, "argument is not an identifier")?;
        let init = self.list(Vec::new());
        let list = self.list(vec![transform]);
        let step = self.append(list, filter);
        Ok(self.fold(range, name, None, init, step))
    }

    fn transform(
        &mut self,
        kind: &str,
        range: Id,
        variables: (Id, Id),
        filter: Option<Id>,
        transform: Id,
    ) -> Result<Id, Fault> {
        let (first, second) = self.variables(variables.0, variables.1)?;
        let (init, step);
        if kind == "transformList" {
            init = self.list(Vec::new());
            let list = self.list(vec![transform]);
            step = self.append(list, filter);
        } else {
            init = self.push(Expr::Map { entries: Vec::new() });
            let mut args = vec![self.accumulator()];
            if kind == "transformMap" {
                args.push(self.ident(&first));
            }
            args.push(transform);
            let insert = self.call("cel.@mapInsert", args);
            step = self.filtered(insert, filter);
        }
        Ok(self.fold(range, first, Some(second), init, step))
    }

    fn optional(&mut self, target: Id, variable: Id, mapped: Id, wrap: bool) -> Result<Id, Fault> {
        let Expr::Ident(name) = self.parser.expr(variable).clone() else {
            return Err((
                variable,
                if wrap {
                    "optMap() variable name must be a simple identifier".into()
                } else {
                    "optFlatMap() variable name must be a simple identifier".into()
                },
            ));
        };
        let has = self.member("hasValue", target, Vec::new());
        let value = self.member("value", target, Vec::new());
        let bound = self.bind(name, value, mapped);
        let some = if wrap { self.optional_function("of", vec![bound]) } else { bound };
        let none = self.optional_function("none", Vec::new());
        Ok(self.call("_?_:_", vec![has, some, none]))
    }

    fn optional_function(&mut self, name: &str, args: Vec<Id>) -> Id {
        self.call(&format!("optional.{name}"), args)
    }

    /// `mapped` with `name` standing for `value`: a comprehension over nothing.
    fn bind(&mut self, name: Arc<str>, value: Id, mapped: Id) -> Id {
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.ident(&name);
        self.comprehension(Comprehension {
            range,
            variable: UNUSED.into(),
            second: None,
            accumulator: name,
            init: value,
            condition,
            step,
            result: mapped,
        })
    }

    fn sort_by(&mut self, target: Id, variable: Id, key: Id) -> Result<Id, Fault> {
        if matches!(self.parser.expr(target), Expr::Literal(_) | Expr::Map { .. } | Expr::Struct { .. }) {
            return Err((
                target,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
                    .into(),
            ));
        }
        let range = self.ident(SORT_INPUT);
        let keys = self.map(range, variable, None, key)?;
        let input = self.ident(SORT_INPUT);
        let sorted = self.member("@sortByAssociatedKeys", input, vec![keys]);
        Ok(self.bind(SORT_INPUT.into(), target, sorted))
    }
}
