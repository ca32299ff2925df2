// Package archtest holds this project's rules about its own source as tests:
// which package may import which, what each package must say about itself, and
// what is kept out of the hot path. A rule that fails names the file, and the
// reason for the rule; the tables in rules_test.go, and the table of packages in
// ARCHITECTURE.md, are the places to change one on purpose.
//
// It contains no code that a program runs, and is never imported.
package archtest
