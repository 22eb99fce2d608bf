"""The text the support assistant learns from: cards, words, slots, noise, and the dialogues made of them."""
