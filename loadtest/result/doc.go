// Package result defines what a load test has measured: a Report of Cells, each
// one scenario on one target, and the JSON file that keeps them.
//
// It owns the form of that file. It never measures and never computes a figure;
// package judge decides what of a cell is rejected or a bound.
package result
