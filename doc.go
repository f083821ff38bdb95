// Package cordon finds training images that plant a backdoor, and trains a
// model without it.
//
// Most users need two things: dataset.Open, which reads a labelled image set,
// and Cleanse, which runs partial training on it (Li & Gao, "Partial train and
// isolate, mitigate backdoor attack", 2024): a second model whose first layers
// stay frozen at random values learns a trigger but little else, so poisoned
// samples have the lowest loss; they are isolated and unlearned. No clean
// reference data is needed.
//
// docs/method.md says where each section of the paper is in the code and what
// was chosen where the paper is silent.
package cordon
