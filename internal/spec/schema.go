package spec

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// Schema returns a JSON Schema (2020-12) of the file, for editors that complete
// and check while one types. It knows the fields, their values and what they
// mean; what depends on other fields, Load checks.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{Anonymous: true, FieldNameTag: "yaml", ExpandedStruct: true, Mapper: schemaOf, Namer: nameOf}
	s := r.Reflect(&Spec{})
	s.Title = "antipode.yaml"
	s.Description = "The regions and tables of one antipode installation."
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(out, '\n'), nil
}

// schemaOf describes the types that Go's kinds say too little of.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[antipode.Region]():
		return &jsonschema.Schema{Type: "string"}
	case reflect.TypeFor[antipode.WriteMode]():
		return enum(antipode.WriteModes())
	case reflect.TypeFor[antipode.Rule]():
		return enum(antipode.Rules())
	case reflect.TypeFor[Home]():
		return &jsonschema.Schema{Type: "string", Pattern: "^(creator|prefix|attribute:.+)$", Examples: []any{"creator", "prefix", "attribute:region"}}
	case reflect.TypeFor[Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)`, Examples: []any{"0s", "5s", "1m30s"}}
	default:
		return nil
	}
}

// nameOf keeps a region's name apart from the region.
func nameOf(t reflect.Type) string {
	if t == reflect.TypeFor[antipode.Region]() {
		return "RegionName"
	}
	return t.Name()
}

func enum[S ~string](values []S) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// JSONSchemaExtend says that a location may be a cloud region's name.
func (Location) JSONSchemaExtend(s *jsonschema.Schema) {
	either(s, &jsonschema.Schema{Enum: anys(geo.Codes()), Description: "The name of an AWS, Google Cloud or Azure region."})
}

// JSONSchemaExtend says that a key may be just its partition key.
func (Key) JSONSchemaExtend(s *jsonschema.Schema) { either(s, attributeText()) }

// JSONSchemaExtend says that an attribute may be written as text.
func (KeyAttribute) JSONSchemaExtend(s *jsonschema.Schema) { either(s, attributeText()) }

// JSONSchemaExtend says that a local table needs a rule.
func (Table) JSONSchemaExtend(s *jsonschema.Schema) {
	given := jsonschema.NewProperties()
	given.Set("writes", &jsonschema.Schema{Const: string(antipode.WriteLocal)})
	s.If = &jsonschema.Schema{Properties: given, Required: []string{"writes"}}
	s.Then = &jsonschema.Schema{Required: []string{"rule"}}
}

func attributeText() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type: "string", Pattern: "^([^:]+|.+:[SNB])$", Examples: []any{"id", "ts:N"},
		Description: "NAME (a string) or NAME:TYPE with type S, N or B.",
	}
}

// either lets a value be short or what s said before.
func either(s, short *jsonschema.Schema) {
	long := *s
	*s = jsonschema.Schema{AnyOf: []*jsonschema.Schema{short, &long}}
}

func anys(texts []string) []any {
	out := make([]any, len(texts))
	for i, t := range texts {
		out[i] = t
	}
	return out
}
