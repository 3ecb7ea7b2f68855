package main

func cmdSelftest(cfg Config, args []string) error { return nil }
