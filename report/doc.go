// Package report holds the results of one cleaning run and renders them: as
// JSON with a versioned schema, as one self-contained HTML page and as a plain
// text table.
//
// The types are plain data, and nothing here needs the engine, so that a program
// that only wants to read results can do so. Symbols follow the paper
// (Li & Gao 2024): M_s is the base model trained on everything, M′ the partial
// model, D_s the isolated samples, D_c the retained ones, M_c the clean model.
package report
