// The generator of the documentation's site. It stands in a module of its own so that nothing of it
// gets into Sluice.
module sluice/docs/site

go 1.26.0

require github.com/yuin/goldmark v1.8.7
