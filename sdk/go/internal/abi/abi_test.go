package abi_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The numbers are those of the gateway: each constant of rust/abi whose name is one of ours has the same value.
func TestTheNumbersAreTheGatewaysOwn(t *testing.T) {
	source, err := os.ReadFile("../../../../rust/abi/src/lib.rs")
	if err != nil {
		t.Fatal(err)
	}
	gateway := map[string]string{}
	for _, found := range regexp.MustCompile(`pub const (\w+): u\d+ = (\d+);`).FindAllStringSubmatch(string(source), -1) {
		gateway[strings.ReplaceAll(found[1], "_", "")] = found[2]
	}
	file, err := parser.ParseFile(token.NewFileSet(), "abi.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	ast.Inspect(file, func(node ast.Node) bool {
		constant, is := node.(*ast.ValueSpec)
		if !is || len(constant.Values) != 1 {
			return true
		}
		value, is := constant.Values[0].(*ast.BasicLit)
		if !is {
			return true
		}
		name := constant.Names[0].Name
		if want := gateway[strings.ToUpper(name)]; want != value.Value {
			t.Errorf("%s is %s here and %q in the gateway", name, value.Value, want)
		}
		checked++
		return true
	})
	if checked < 50 {
		t.Errorf("only %d numbers were compared", checked)
	}
}
