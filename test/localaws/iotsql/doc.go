// Package iotsql is AWS IoT SQL, version 2016-03-23: what the rules engine of
// AWS IoT does between a published message and the actions of a topic rule.
//
// [Parse] checks a whole statement, so that a function, clause or syntax that
// is unknown, or that the local cloud cannot run, is refused by name when the
// rule is deployed and never when a message arrives. [Statement.Matches] tells
// whether a message starts the rule, [Statement.Eval] gives what its actions
// receive, and [Statement.ParseTemplate] reads the substitution templates of
// the actions.
//
// The semantics are those of the AWS IoT SQL reference in the AWS IoT Core
// Developer Guide. Two of its habits surprise:
//
//   - A missing key or a bad argument is Undefined, not an error, and Undefined
//     makes nearly every operator Undefined: one missing field poisons a whole
//     OR chain. A WHERE that is Undefined is not true.
//   - Whole numbers are Int, however they are written (10.0 is 10), and Int
//     divided by Int is an Int, truncated.
//
// Parse refuses by name what AWS has and nobody needs here (nested SELECT, IN,
// EXISTS, dates, trigonometry and hashes), and what AWS documents without what
// it does (a dotted alias, an expression without alias).
package iotsql
