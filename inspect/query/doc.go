// Package query gives the commands that look into evidence what they show:
// streams of plain rows, with the values of keys left out. One file a command.
package query
