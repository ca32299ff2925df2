// Package report shows what package loadtest has measured: a table for the
// terminal, the same in Markdown, charts as SVG, and one HTML page with
// everything, which needs nothing from the network.
//
// It owns no figures and never computes new ones, apart from the medians that
// loadtest gives and their form for readers. A figure that loadtest refuses is
// shown as refused, with the reason, and is never drawn.
package report
