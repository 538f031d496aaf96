// Package inspect judges evidence: what was handed in, what each file says,
// whether it is sound, and which findings decided that. Readers state facts;
// every severity in the project comes from the catalogue in this package.
package inspect
